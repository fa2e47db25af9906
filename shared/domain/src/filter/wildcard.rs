//! Texts with wildcards: `*` stands for any text, `\*` and `\\` for the characters
//! themselves. Matching goes over the text once, from left to right.

/// A pattern, cut at its wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard {
    /// What a text begins with; all of it if `rest` is empty.
    first: Box<str>,
    /// What follows, each part after a wildcard. The last one ends the text.
    rest: Box<[Box<str>]>,
}

impl Wildcard {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let mut parts = vec![String::new()];
        let mut after_wildcard = false;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c == '*' {
                if after_wildcard {
                    return Err("has two wildcards in a row");
                }
                parts.push(String::new());
            } else if let Some(part) = parts.last_mut() {
                part.push(match c {
                    '\\' => chars
                        .next()
                        .filter(|c| matches!(c, '*' | '\\'))
                        .ok_or(r"has a backslash that is not followed by `*` or `\`")?,
                    c => c,
                });
            }
            after_wildcard = c == '*';
        }
        let mut parts = parts.into_iter().map(String::into_boxed_str);
        Ok(Self { first: parts.next().unwrap_or_default(), rest: parts.collect() })
    }

    /// Whether a text begins as the pattern does.
    pub(super) fn begins(&self, text: &str) -> bool {
        text.starts_with(&*self.first)
    }

    /// Whether it stands for this text. It takes time for each byte of both once.
    pub(super) fn fits(&self, text: &str) -> bool {
        let Some(mut text) = text.strip_prefix(&*self.first) else { return false };
        let Some((last, between)) = self.rest.split_last() else { return text.is_empty() };
        for part in between {
            // The first place is the best: it leaves the most to the parts that follow.
            let Some((_, after)) = text.split_once(&**part) else { return false };
            text = after;
        }
        text.ends_with(&**last)
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(|part| part.len() + 1).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, without regard to time.
    fn stands_for(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|n| stands_for(rest, &text[n..])),
            ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && stands_for(rest, &text[1..]),
        }
    }

    #[test]
    fn escapes_are_two_characters_and_wildcards_stand_alone() {
        for good in ["", "*", "a*b*c", r"\*", r"\\", r"*\**", r"\\*", r"\**"] {
            assert!(Wildcard::read(good).is_ok(), "{good}");
        }
        for bad in ["**", "a**b", r"\", r"a\", r"\a", r"a\b*", r"\\\"] {
            assert!(Wildcard::read(bad).is_err(), "{bad}");
        }
        let fits = |pattern: &str, text: &str| Wildcard::read(pattern).unwrap().fits(text);
        assert!(fits(r"*\*", "a*") && !fits(r"*\*", "a") && fits(r"\\*", r"\a"));
        assert!(fits("a*a", "aa") && !fits("a*a", "a") && fits("*aab", "aaab"));
    }

    proptest! {
        #[test]
        fn it_fits_what_its_definition_says(pattern in r"([ab]|\*|\\\*){0,7}", text in r"[ab*]{0,9}") {
            let as_chars = |text: &str| text.chars().collect::<Vec<_>>();
            if let Ok(wildcard) = Wildcard::read(&pattern) {
                prop_assert_eq!(wildcard.fits(&text), stands_for(&as_chars(&pattern), &as_chars(&text)));
            } else {
                prop_assert!(pattern.contains("**"));
            }
        }
    }
}
