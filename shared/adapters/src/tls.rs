//! TLS: the certificate authorities to trust, and what is made ready when a process
//! starts. Lambda gives a whole CPU for that, and the invocations of a small function
//! have a seventh of one.

mod sessions;
mod verified;

use std::sync::{Arc, LazyLock};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, OtherError, RootCertStore};
use rustls_native_certs::{CertificateResult, load_native_certs};

use self::sessions::KeptSessions;
use self::verified::VerifiedChains;

/// The machine's certificate authorities. They are read once: that costs as much as a
/// hundred deliveries.
static MACHINE: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let CertificateResult { certs, errors, .. } = load_native_certs();
    for error in errors {
        tracing::warn!(%error, "certificate authorities of this machine cannot be read");
    }
    certs
});

/// Draws the first random number, for which the library seeds itself. A library that is
/// built to measure the jitter of the CPU takes some 20 ms for that: within an invocation
/// the first connection would pay for it, and fail in a small function.
pub(crate) fn prepare() {
    if aws_lc_rs::default_provider().secure_random.fill(&mut [0; 1]).is_err() {
        tracing::error!("the cryptography library gives no random number");
    }
}

/// Reads certificates in PEM; `None` when there are none or one is broken.
pub(crate) fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let bundle: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!bundle.is_empty()).then_some(bundle)
}

/// The machine's certificate authorities in PEM, for a library that takes nothing else.
pub(crate) fn machine_pem() -> String {
    MACHINE.iter().map(|certificate| pem(certificate)).collect()
}

fn pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// TLS for connections to receivers, whose certificates the machine's authorities or
/// `extra` ones have signed.
pub(crate) fn for_receivers(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in extra {
        roots.add(root)?;
    }
    let (_, unusable) = roots.add_parsable_certificates(MACHINE.iter().cloned());
    if unusable > 0 {
        tracing::warn!(unusable, "certificate authorities of this machine cannot be used");
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))?;
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(VerifiedChains::new(verifier)))
        .with_no_client_auth();
    // They belong to the process and not to a pool of connections, which is renewed often.
    tls.resumption = Resumption::store(Arc::new(KeptSessions::default()));
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_authorities_survive_their_way_through_pem() {
        assert!(!MACHINE.is_empty(), "this machine has certificate authorities");
        assert_eq!(certificates(&machine_pem()).as_deref(), Some(MACHINE.as_slice()));
        assert_eq!(certificates(""), None);
    }
}
