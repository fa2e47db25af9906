//! Texts compared without regard to case. A character of the pattern stands for its lower
//! and its upper case, whatever their lengths: `ß` stands for itself and for `SS`.

/// What is left of `text` after all of `pattern`, from the beginning.
pub(super) fn after_prefix<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let mut rest = text;
    for wanted in pattern.chars() {
        let mut left = rest.chars();
        rest = match left.next() {
            Some(c) if wanted.is_ascii() && c.eq_ignore_ascii_case(&wanted) => left.as_str(),
            _ => forms(wanted, |form| rest.strip_prefix(form))?,
        };
    }
    Some(rest)
}

/// What is left of `text` before all of `pattern`, from the end.
pub(super) fn before_suffix<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let mut rest = text;
    for wanted in pattern.chars().rev() {
        let mut left = rest.chars();
        rest = match left.next_back() {
            Some(c) if wanted.is_ascii() && c.eq_ignore_ascii_case(&wanted) => left.as_str(),
            _ => forms(wanted, |form| rest.strip_suffix(form))?,
        };
    }
    Some(rest)
}

/// Tries both cases of a character.
fn forms<'t>(c: char, mut attempt: impl FnMut(&str) -> Option<&'t str>) -> Option<&'t str> {
    let mut form = String::new();
    form.extend(c.to_lowercase());
    if let Some(rest) = attempt(&form) {
        return Some(rest);
    }
    form.clear();
    form.extend(c.to_uppercase());
    attempt(&form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cases_of_every_character_are_taken() {
        for (text, pattern, fits) in [
            ("", "", true),
            ("Straße", "sTRAßE", true),
            ("STRASSE", "straße", true),
            ("strasse", "straße", false),
            ("É", "é", true),
            ("é", "É", true),
            ("e", "é", false),
            ("ab", "abc", false),
            ("漢", "漢", true),
        ] {
            assert_eq!(after_prefix(text, pattern) == Some(""), fits, "{text} {pattern}");
            assert_eq!(before_suffix(text, pattern) == Some(""), fits, "{text} {pattern}");
        }
        assert_eq!(after_prefix("Éa", "é"), Some("a"));
        assert_eq!(before_suffix("aÉ", "é"), Some("a"));
    }
}
