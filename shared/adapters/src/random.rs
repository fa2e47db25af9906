//! Chance that nobody can guess: ids, nonces and secrets.

use aws_lc_rs::rand;

/// The operating system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("there is no randomness")]
pub struct NoRandomness;

/// Random bytes.
///
/// # Errors
/// When there is no randomness.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Random letters and digits, each as likely as any other.
///
/// # Errors
/// When there is no randomness.
pub fn alphanumeric(length: usize) -> Result<String, NoRandomness> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Bytes from 248 on would make the first letters more likely.
    const FAIR: u8 = 248;
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let fair = bytes::<32>()?.into_iter().filter(|byte| *byte < FAIR);
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        text.extend(letters.take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_letter_comes_up_about_as_often() {
        let mut counts = BTreeMap::new();
        for c in alphanumeric(62_000).unwrap().chars() {
            *counts.entry(c).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_ne!(alphanumeric(22).unwrap(), alphanumeric(22).unwrap());
        assert_ne!(bytes::<12>().unwrap(), bytes::<12>().unwrap());
    }
}
