//! A receiver's origin, the unit that breakers and fairness work on.

use aws_lc_rs::digest::{SHA256, digest};
use url::Url;

use crate::identity::hex;

/// `scheme://host:port`, lower case, host in punycode, default port dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination(String);

impl Destination {
    /// The origin of `url`. The URL standard's parser has already lower-cased
    /// scheme and host, turned names into punycode and dropped default ports.
    pub fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let scheme = url.scheme();
        Self(match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        })
    }

    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What SQS fair queues group by: the origin, or its SHA-256 in hex when
    /// it is longer than the 128 characters that a `MessageGroupId` may have.
    pub fn message_group_id(&self) -> String {
        if self.0.len() <= 128 { self.0.clone() } else { hex(digest(&SHA256, self.0.as_bytes()).as_ref()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Destination {
        Destination::of(&Url::parse(url).unwrap())
    }

    #[test]
    fn origins_are_normal_forms() {
        assert_eq!(of("HTTPS://Example.COM:443/a?b#c").as_str(), "https://example.com");
        assert_eq!(of("http://example.com:8080/").as_str(), "http://example.com:8080");
        assert_eq!(of("https://[::1]:8443/x").as_str(), "https://[::1]:8443");
        assert_eq!(of("https://user:pw@bücher.example/").as_str(), "https://xn--bcher-kva.example");
    }

    #[test]
    fn a_group_id_is_ascii_and_at_most_128_characters() {
        let long = format!("https://{}.example/", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."));
        for url in [long.as_str(), "https://bücher.example/", "https://例え.テスト/", "http://[2001:db8::1]:99/"]
        {
            let group = of(url).message_group_id();
            assert!(group.len() <= 128 && group.bytes().all(|b| b.is_ascii_graphic()), "{group}");
        }
        assert_eq!(of(&long).message_group_id().len(), 64);
    }
}
