//! A certificate authority for one test.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, date_time_ymd,
};

/// Signs the certificates of a test. Its files are removed with it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    /// Now.
    Now,
    /// No longer.
    Past,
    /// Not yet.
    Future,
}

/// Paths of a server's certificate, its key and its authority's certificate.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// The authority's certificate, in PEM.
    pub authority: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one that nobody trusts yet.
    ///
    /// # Panics
    /// When its directory cannot be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Verifiers find issuers by name, so each authority has another one.
        params.distinguished_name.push(DnType::CommonName, format!("authority {:x}", fastrand::u64(..)));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = std::env::temp_dir().join(format!("steadhook-tls-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir_all(&dir).unwrap();
        Self { issuer, dir }
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for this host name or address, and its key, in PEM.
    ///
    /// # Panics
    /// When the name cannot stand in a certificate.
    pub fn certificate_for(&self, host: &str) -> (String, String) {
        self.certificate_valid(host, Validity::Now)
    }

    /// The same, valid at some time.
    ///
    /// # Panics
    /// When the name cannot stand in a certificate.
    pub fn certificate_valid(&self, host: &str, validity: Validity) -> (String, String) {
        self.certificate_with(KeyPair::generate().unwrap(), host, validity)
    }

    fn certificate_with(&self, key: KeyPair, host: &str, validity: Validity) -> (String, String) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        let (from, to) = match validity {
            Validity::Now => (2020, 2090),
            Validity::Past => (2020, 2021),
            Validity::Future => (2090, 2091),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A certificate for this host with an RSA key of 2048 bits.
    ///
    /// # Panics
    /// When the name cannot stand in a certificate.
    pub fn rsa_certificate_for(&self, host: &str) -> (String, String) {
        self.certificate_with(KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), host, Validity::Now)
    }

    /// The same, as files.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn files_for(&self, host: &str) -> Files {
        let (certificate, key) = self.certificate_for(host);
        let write = |name: &str, text: String| {
            let path = self.dir.join(name);
            fs::write(&path, text).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        Files {
            certificate: write("server.pem", certificate),
            key: write("server.key", key),
            authority: write("authority.pem", self.pem()),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}
