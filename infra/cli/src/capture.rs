//! A webhook as it arrived, and whether it is signed with one of some secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::signature::Verifier;
use domain::time::Millis;

use crate::failure::Failure;
use crate::text::span;

/// A webhook as it arrived.
#[derive(Debug)]
pub(crate) struct Webhook {
    /// Its headers, by names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Its body, byte for byte.
    pub(crate) body: Vec<u8>,
}

impl Webhook {
    /// Reads a captured request: perhaps a request line, headers, an empty line, the body.
    ///
    /// # Errors
    /// When it has no headers.
    pub(crate) fn captured(request: &[u8]) -> Result<Self, Failure> {
        let (mut headers, mut rest) = (BTreeMap::new(), request);
        loop {
            let no_end = || Failure::Usage("the request has no empty line between its headers and its body".to_owned());
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(no_end)?;
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            if line.is_empty() {
                break;
            }
            // A request line has no colon before its first space.
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        Ok(Self { headers, body: rest.to_vec() })
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// When it was signed.
    pub(crate) fn timestamp(&self) -> Option<Millis> {
        let seconds: u64 = self.header("webhook-timestamp")?.parse().ok()?;
        seconds.checked_mul(1000).map(Millis)
    }
}

/// What webhooks are checked with.
pub(crate) struct Checker(Vec<Verifier>);

/// The number of the secret that it is signed with, or why it is not valid.
pub(crate) type Checked = Result<usize, String>;

impl Checker {
    /// Reads secrets.
    ///
    /// # Errors
    /// What is wrong with them, without showing one.
    pub(crate) fn new(secrets: &[String]) -> Result<Self, Failure> {
        let read = |(n, secret): (usize, &String)| {
            Verifier::parse(secret.trim())
                .map_err(|error| format!("secret {}: {error}; a public key begins with `whpk_`", n + 1))
        };
        let (mut verifiers, mut faults) = (Vec::new(), Vec::new());
        for secret in secrets.iter().filter(|secret| !secret.trim().is_empty()).enumerate() {
            match read(secret) {
                Ok(verifier) => verifiers.push(verifier),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self(verifiers)) } else { Err(Failure::Usage(faults.join("\n  "))) }
    }

    /// Whether there is nothing to check with.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a webhook. It may be as old, or as far ahead, as `tolerance`.
    ///
    /// # Errors
    /// Why it is not valid, with what usually leads to that.
    pub(crate) fn check(&self, webhook: &Webhook, now: Millis, tolerance: Option<Duration>) -> Checked {
        let header = |name: &str| webhook.header(name).ok_or_else(|| format!("the header {name} is missing"));
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signature = header("webhook-signature")?;
        let at = webhook.timestamp().ok_or("webhook-timestamp is no number of seconds")?;
        let signed_by = |body: &[u8]| self.0.iter().position(|secret| secret.verify(id, timestamp, body, signature));
        let Some(secret) = signed_by(&webhook.body) else {
            let body = webhook.body.strip_suffix(b"\n").unwrap_or(&webhook.body);
            let body = body.strip_suffix(b"\r").unwrap_or(body);
            let lacks = |version: &str| !signature.split_whitespace().any(|one| one.starts_with(version));
            return Err(if signed_by(body).is_some() {
                "the body has a line break at its end that did not arrive so; without it, the signature is right"
                    .to_owned()
            } else if lacks("v1,") && lacks("v1a,") {
                "webhook-signature has no signature of version v1 or v1a".to_owned()
            } else {
                "no signature fits: it is another secret, or the body is not what arrived, byte for byte".to_owned()
            });
        };
        let off = at.until(now).max(now.until(at));
        match tolerance {
            Some(tolerance) if off > tolerance => {
                let way = if at < now { "old" } else { "ahead" };
                Err(format!("the signature is right, but {} {way}: more than {}", span(off), span(tolerance)))
            }
            _ => Ok(secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signature::Signer;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const NOW: Millis = Millis(1_777_636_800_000);

    fn request(body: &str) -> Vec<u8> {
        let signature = Signer::parse(SECRET).unwrap().sign("msg_1", NOW.as_secs(), body.as_bytes());
        let head = "POST /hooks?a=b HTTP/1.1\r\nHost: x:1\r\nWebhook-Id: msg_1\r\nWebhook-Timestamp";
        format!("{head}: {}\r\nwebhook-signature: {signature}\r\n\r\n{body}", NOW.as_secs()).into_bytes()
    }

    fn check(request: &[u8], secrets: &[&str], now: Millis) -> Checked {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        let tolerance = Some(Duration::from_secs(300));
        Checker::new(&secrets).unwrap().check(&Webhook::captured(request).unwrap(), now, tolerance)
    }

    #[test]
    fn a_captured_request_is_checked() {
        let good = request("{\"a\": \"b\\n\"}");
        assert_eq!(check(&good, &[SECRET], NOW), Ok(0));
        assert_eq!(check(&good, &[OTHER, SECRET], NOW), Ok(1));
        assert!(check(&good, &[OTHER], NOW).unwrap_err().contains("another secret"));
        assert!(check(&good, &[SECRET], NOW.after(Duration::from_secs(301))).unwrap_err().contains("5 min old"));
        assert!(check(&good, &[SECRET], Millis(NOW.0 - 400_000)).unwrap_err().contains("6 min ahead"));
        let unix = String::from_utf8(good).unwrap().replace("\r\n", "\n");
        assert_eq!(check(unix.as_bytes(), &[SECRET], NOW), Ok(0));
    }

    #[test]
    fn it_says_why_it_is_not_valid() {
        let with_break = [request("{}"), b"\n".to_vec()].concat();
        assert!(check(&with_break, &[SECRET], NOW).unwrap_err().contains("line break"));
        let text = String::from_utf8(request("{}")).unwrap();
        assert!(
            check(text.replace("v1,", "v9,").as_bytes(), &[SECRET], NOW)
                .unwrap_err()
                .contains("no signature of version")
        );
        assert!(
            check(text.replace("Webhook-Id", "X").as_bytes(), &[SECRET], NOW)
                .unwrap_err()
                .contains("webhook-id is missing")
        );
        assert!(Webhook::captured(b"POST / HTTP/1.1\r\n{}").is_err());
    }

    #[test]
    fn secrets_are_refused_together_and_not_shown() {
        let bad = ["whsec_xyz".to_owned(), SECRET.to_owned(), "hello".to_owned()];
        let Err(Failure::Usage(why)) = Checker::new(&bad) else { panic!("they were taken") };
        assert!(why.contains("secret 1") && why.contains("secret 3") && !why.contains("xyz") && !why.contains("hello"));
    }
}
