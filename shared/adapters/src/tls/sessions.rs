//! TLS sessions to be resumed. A ticket is used once, and a batch opens many connections at once to a receiver
//! that keeps none: the store of the TLS library has eight tickets of a receiver, which is fewer than a batch needs.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Most receivers whose sessions are kept; those of the one that was called longest ago go first.
const MOST_RECEIVERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Most tickets of one receiver.
const MOST_TICKETS: usize = 16;

/// What is kept of one receiver.
#[derive(Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of the receivers that were called last.
pub(super) struct KeptSessions(Mutex<LruCache<ServerName<'static>, Sessions>>);

impl Default for KeptSessions {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST_RECEIVERS)))
    }
}

/// Secrets are not shown.
impl fmt::Debug for KeptSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSessions").finish_non_exhaustive()
    }
}

impl KeptSessions {
    fn all(&self) -> MutexGuard<'_, LruCache<ServerName<'static>, Sessions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, receiver: ServerName<'static>, change: impl FnOnce(&mut Sessions)) {
        change(self.all().get_or_insert_mut(receiver, Sessions::default));
    }
}

impl ClientSessionStore for KeptSessions {
    fn set_kx_hint(&self, receiver: ServerName<'static>, group: NamedGroup) {
        self.change(receiver, |sessions| sessions.group = Some(group));
    }

    fn kx_hint(&self, receiver: &ServerName<'_>) -> Option<NamedGroup> {
        self.all().get(&receiver.to_owned())?.group
    }

    fn set_tls12_session(&self, receiver: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.change(receiver, |sessions| sessions.tls12 = Some(session));
    }

    fn tls12_session(&self, receiver: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.all().get(&receiver.to_owned())?.tls12.clone()
    }

    fn remove_tls12_session(&self, receiver: &ServerName<'static>) {
        if let Some(sessions) = self.all().get_mut(receiver) {
            sessions.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, receiver: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.change(receiver, |Sessions { tickets, .. }| {
            if tickets.len() == MOST_TICKETS {
                tickets.pop_front();
            }
            tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, receiver: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.all().get_mut(receiver)?.tickets.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

    /// A connection that was made in memory, and how.
    fn connected(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (ClientConnection, ServerConnection) {
        let name = ServerName::try_from("a.example").unwrap();
        let mut ours = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut theirs = ServerConnection::new(Arc::clone(server)).unwrap();
        carry(&mut ours, &mut theirs);
        (ours, theirs)
    }

    fn carry(ours: &mut ClientConnection, theirs: &mut ServerConnection) {
        while ours.wants_write() || theirs.wants_write() {
            let mut bytes = Vec::new();
            ours.write_tls(&mut bytes).unwrap();
            theirs.read_tls(&mut &*bytes).unwrap();
            theirs.process_new_packets().unwrap();
            bytes.clear();
            theirs.write_tls(&mut bytes).unwrap();
            ours.read_tls(&mut &*bytes).unwrap();
            ours.process_new_packets().unwrap();
        }
    }

    /// How many of so many connections, opened at once, resumed a session.
    fn resumed(version: &'static rustls::SupportedProtocolVersion, rounds: usize, at_once: usize) -> usize {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.resumption = rustls::client::Resumption::store(Arc::new(KeptSessions::default()));
        let (client, server) = (Arc::new(client), Arc::new(server.unwrap()));
        for _ in 1..rounds {
            let _open: Vec<_> = (0..at_once).map(|_| connected(&client, &server)).collect();
        }
        // All begin before the first of them gets new tickets.
        let name = ServerName::try_from("a.example").unwrap();
        let begun: Vec<_> = (0..at_once)
            .map(|_| {
                let mut ours = ClientConnection::new(Arc::clone(&client), name.clone()).unwrap();
                let mut hello = Vec::new();
                ours.write_tls(&mut hello).unwrap();
                (ours, hello)
            })
            .collect();
        let end = |(mut ours, hello): (ClientConnection, Vec<u8>)| {
            let mut theirs = ServerConnection::new(Arc::clone(&server)).unwrap();
            theirs.read_tls(&mut &*hello).unwrap();
            theirs.process_new_packets().unwrap();
            carry(&mut ours, &mut theirs);
            ours.handshake_kind() == Some(HandshakeKind::Resumed)
        };
        begun.into_iter().map(end).filter(|resumed| *resumed).count()
    }

    #[test]
    fn every_connection_of_a_batch_of_ten_resumes() {
        assert_eq!(resumed(&rustls::version::TLS13, 1, 10), 0);
        assert_eq!(resumed(&rustls::version::TLS13, 2, 10), 10);
        assert_eq!(resumed(&rustls::version::TLS13, 3, 20), MOST_TICKETS, "what is kept has an end");
        assert_eq!(resumed(&rustls::version::TLS12, 2, 20), 20, "a session of TLS 1.2 serves again and again");
    }
}
