//! TLS sessions to be resumed. A ticket is used once, and a batch opens many connections at once to a receiver
//! that keeps none: the store of the TLS library has eight tickets of a receiver, which is fewer than a batch needs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Most receivers whose sessions are kept; those of the one that was called longest ago go first.
const MOST_RECEIVERS: usize = 128;
/// Most tickets of one receiver.
const MOST_OF_ONE: usize = 16;
/// Most tickets in all. A receiver decides how large they are, up to 64 KiB.
const MOST_TICKETS: usize = 1024;

/// What is kept of one receiver.
#[derive(Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of the receivers that were called last.
pub(super) struct KeptSessions(Mutex<All>);

struct All {
    receivers: LruCache<ServerName<'static>, Sessions>,
    /// How many tickets they have.
    tickets: usize,
}

impl Default for KeptSessions {
    fn default() -> Self {
        Self(Mutex::new(All { receivers: LruCache::unbounded(), tickets: 0 }))
    }
}

impl All {
    /// Changes what is kept of a receiver, and then lets go what is too much.
    fn change(&mut self, receiver: ServerName<'static>, change: impl FnOnce(&mut Sessions)) {
        let sessions = self.receivers.get_or_insert_mut(receiver, Sessions::default);
        self.tickets -= sessions.tickets.len();
        change(sessions);
        self.tickets += sessions.tickets.len();
        while self.receivers.len() > MOST_RECEIVERS || self.tickets > MOST_TICKETS {
            let Some((_, gone)) = self.receivers.pop_lru() else { return };
            self.tickets -= gone.tickets.len();
        }
    }
}

/// Secrets are not shown.
impl fmt::Debug for KeptSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSessions").finish_non_exhaustive()
    }
}

impl KeptSessions {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for KeptSessions {
    fn set_kx_hint(&self, receiver: ServerName<'static>, group: NamedGroup) {
        self.all().change(receiver, |sessions| sessions.group = Some(group));
    }

    fn kx_hint(&self, receiver: &ServerName<'_>) -> Option<NamedGroup> {
        self.all().receivers.get(&receiver.to_owned())?.group
    }

    fn set_tls12_session(&self, receiver: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.all().change(receiver, |sessions| sessions.tls12 = Some(session));
    }

    fn tls12_session(&self, receiver: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.all().receivers.get(&receiver.to_owned())?.tls12.clone()
    }

    fn remove_tls12_session(&self, receiver: &ServerName<'static>) {
        if let Some(sessions) = self.all().receivers.get_mut(receiver) {
            sessions.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, receiver: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.all().change(receiver, |Sessions { tickets, .. }| {
            if tickets.len() == MOST_OF_ONE {
                tickets.pop_front();
            }
            tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, receiver: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut all = self.all();
        let ticket = all.receivers.get_mut(receiver)?.tickets.pop_back()?;
        all.tickets -= 1;
        Some(ticket)
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
    fn connected(
        name: &str,
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> (ClientConnection, ServerConnection) {
        let name = ServerName::try_from(name.to_owned()).unwrap();
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

    /// A client and a server that has its certificate for any of these names.
    fn pair(
        version: &'static rustls::SupportedProtocolVersion,
        names: Vec<String>,
    ) -> (Arc<ClientConfig>, Arc<ServerConfig>, Arc<KeptSessions>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        let kept = Arc::new(KeptSessions::default());
        client.resumption = rustls::client::Resumption::store(Arc::clone(&kept) as _);
        (Arc::new(client), Arc::new(server.unwrap()), kept)
    }

    /// How many of so many connections, opened at once, resumed a session.
    fn resumed(version: &'static rustls::SupportedProtocolVersion, rounds: usize, at_once: usize) -> usize {
        let (client, server, _) = pair(version, vec!["a.example".to_owned()]);
        for _ in 1..rounds {
            let _open: Vec<_> = (0..at_once).map(|_| connected("a.example", &client, &server)).collect();
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
        assert_eq!(resumed(&rustls::version::TLS13, 3, 20), MOST_OF_ONE, "what is kept has an end");
        assert_eq!(resumed(&rustls::version::TLS12, 2, 20), 20, "a session of TLS 1.2 serves again and again");
    }

    #[test]
    fn what_is_kept_in_all_has_an_end() {
        let names: Vec<String> = (0..MOST_RECEIVERS + 9).map(|i| format!("{i}.example")).collect();
        let (client, server, kept) = pair(&rustls::version::TLS13, names.clone());
        for name in &names {
            connected(name, &client, &server);
        }
        assert_eq!(kept.all().receivers.len(), MOST_RECEIVERS);
        for name in &names {
            // A handshake brings some tickets and takes one.
            let _open: Vec<_> = (0..MOST_OF_ONE).map(|_| connected(name, &client, &server)).collect();
        }
        let all = kept.all();
        assert_eq!(all.tickets, all.receivers.iter().map(|(_, sessions)| sessions.tickets.len()).sum::<usize>());
        assert!(all.tickets <= MOST_TICKETS && all.tickets > MOST_TICKETS - MOST_OF_ONE, "{}", all.tickets);
        assert!(all.receivers.iter().all(|(_, sessions)| sessions.tickets.len() <= MOST_OF_ONE));
    }
}
