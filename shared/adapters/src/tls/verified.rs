//! Remembers for a minute which certificates were good for whom. A batch may open many connections to one receiver at once,
//! and a receiver may keep none: each of them would verify the same chain, which is a third of a handshake.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use lru::LruCache;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// How long a verified chain counts, in seconds. One that ends meanwhile is taken for so much longer.
const REMEMBERED_S: u64 = 60;
/// Most chains that are remembered.
const MOST: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// Verifies each chain once a minute. That the receiver has the key of its certificate is checked in every handshake.
#[derive(Debug)]
pub(super) struct VerifiedChains {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Mutex<LruCache<[u8; 32], UnixTime>>,
}

impl VerifiedChains {
    /// What this verifier has found good is remembered.
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self { verifier, seen: Mutex::new(LruCache::new(MOST)) }
    }

    fn was_seen(&self, chain: &[u8; 32], now: UnixTime) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes nothing young again.
        seen.get(chain).is_some_and(|at| *at <= now && now.as_secs() - at.as_secs() < REMEMBERED_S)
    }

    fn remember(&self, chain: [u8; 32], now: UnixTime) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).put(chain, now);
    }
}

/// What stands for a chain that a server of this name sent.
fn fingerprint(name: &ServerName<'_>, end_entity: &[u8], intermediates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    let name = name.to_str();
    let certificates = intermediates.iter().map(|certificate| &**certificate);
    for part in [name.as_bytes(), end_entity].into_iter().chain(certificates) {
        // With its length, no two lists of parts are the same text.
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

impl ServerCertVerifier for VerifiedChains {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = fingerprint(server_name, end_entity, intermediates);
        if self.was_seen(&chain, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.remember(chain, now);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;
    use rustls::crypto::aws_lc_rs::default_provider;

    const HOST: &str = "receiver.example";

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000 + seconds))
    }

    /// A verifier, and a certificate for the host that it trusts; or that of another authority.
    fn set(trusted: bool) -> (VerifiedChains, CertificateDer<'static>) {
        let authority = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ours, other) = (authority(), authority());
        let mut roots = RootCertStore::empty();
        roots.add(ours.der().clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), default_provider().into());
        let issuer = if trusted { &ours } else { &other };
        let params = CertificateParams::new([HOST.to_owned()]).unwrap();
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap();
        (VerifiedChains::new(verifier.build().unwrap()), certificate.der().clone())
    }

    fn verify(verifier: &VerifiedChains, host: &str, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let name = ServerName::try_from(host).unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn a_chain_that_was_good_is_good_for_a_minute_and_for_its_host_alone() {
        let (verifier, certificate) = set(true);
        assert!(verify(&verifier, HOST, &certificate, at(0)));
        let seen = |host: &str, now| {
            verifier.was_seen(&fingerprint(&ServerName::try_from(host).unwrap(), &certificate, &[]), now)
        };
        assert!(seen(HOST, at(0)) && seen(HOST, at(59)));
        assert!(!seen(HOST, at(60)), "it is verified again");
        assert!(!seen("other.example", at(1)));
        assert!(!verify(&verifier, "other.example", &certificate, at(1)));
    }

    #[test]
    fn what_was_refused_is_not_remembered() {
        let (verifier, certificate) = set(false);
        for _ in 0..2 {
            assert!(!verify(&verifier, HOST, &certificate, at(0)));
        }
    }

    #[test]
    fn parts_that_run_together_are_another_chain() {
        let name = ServerName::try_from(HOST).unwrap();
        let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
        let one = fingerprint(&name, b"ab", &[der(b"c")]);
        for other in [
            fingerprint(&name, b"a", &[der(b"bc")]),
            fingerprint(&name, b"ab", &[]),
            fingerprint(&name, b"abc", &[]),
            fingerprint(&name, b"ab", &[der(b""), der(b"c")]),
        ] {
            assert_ne!(one, other);
        }
    }
}
