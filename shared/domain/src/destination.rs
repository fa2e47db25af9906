//! A receiver's origin, the unit that breakers and fairness work on.

use url::Url;

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
}
