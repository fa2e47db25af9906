//! Text for people: colours, relative times, and nothing that a terminal would obey.

use std::borrow::Cow;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use domain::time::Millis;

/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What is under way, or needs a look.
pub(crate) const WAITS: Style = AnsiColor::Yellow.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is beside the point.
pub(crate) const DIM: Style = Style::new().dimmed();
/// A title.
pub(crate) const BOLD: Style = Style::new().bold();
/// Nothing special.
pub(crate) const PLAIN: Style = Style::new();

/// The colour of a status, a result, a state or a condition.
pub(crate) fn style_of(word: &str) -> Style {
    match word {
        "delivered" | "enabled" | "up" | "healthy" | "closed" | "fanned_out" | "done" | "ok" => GOOD,
        "pending" | "retrying" | "waiting" | "accepted" | "fanning_out" | "running" | "paused" | "degraded"
        | "half_open" | "stopped" => WAITS,
        "" | "-" => PLAIN,
        _ => BAD,
    }
}

/// Whether a terminal would obey a character, or show the text around it in another order.
pub(crate) fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// The text without control characters: what others have written must not steer the terminal. Line breaks are shown as such.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { cleaned.extend(c.escape_default()) } else { cleaned.push(c) }
    }
    Cow::Owned(cleaned)
}

/// The same for a text of several lines, which stay lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// A duration as people say it, in its largest unit: `3 min`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number with its noun: `1 attempt`, `2 attempts`.
pub(crate) fn count_of(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", if count == 1 { one } else { many })
}

/// How long ago an instant is, or how far ahead: `3 min ago`, `in 2 h`.
pub(crate) fn relative(at: Millis, now: Millis) -> String {
    let (past, ahead) = (at.until(now), now.until(at));
    match (past.as_secs(), ahead.as_secs()) {
        (0, 0) => "now".to_owned(),
        (1.., _) => format!("{} ago", span(past)),
        (0, _) => format!("in {}", span(ahead)),
    }
}

/// A time of the API, relative to now. What is no time is shown as it is.
pub(crate) fn when(text: &str, now: Millis) -> String {
    Millis::parse_rfc3339(text).map_or_else(|| clean(text).into_owned(), |at| relative(at, now))
}

/// A time of the API in full, and relative to now.
pub(crate) fn when_in_full(text: &str, now: Millis) -> String {
    format!("{} {DIM}({}){DIM:#}", clean(text), when(text, now))
}

/// The most levels that are indented. Deeper ones stand below each other.
const DEEPEST: usize = 32;

/// JSON, indented. What is no JSON is shown as it is. Numbers keep their digits.
pub(crate) fn pretty(json: &str) -> String {
    let Ok(_) = serde_json::from_str::<serde::de::IgnoredAny>(json) else {
        return clean_lines(json);
    };
    let (mut pretty, mut depth, mut quoted, mut escaped) =
        (String::with_capacity(json.len() * 2), 0usize, false, false);
    let mut rest = json.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).peekable();
    let line = |pretty: &mut String, depth: usize| {
        pretty.push_str(&format!("\n{:1$}", "", depth.min(DEEPEST) * 2));
    };
    while let Some(c) = rest.next() {
        if quoted {
            pretty.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                while rest.next_if_eq(&' ').is_some() {}
                pretty.push(c);
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            _ => {
                quoted = c == '"';
                pretty.push(c);
            }
        }
    }
    clean_lines(&pretty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("order 17 – größer"), "order 17 – größer");
        assert_eq!(clean("\u{1b}]0;x\u{7}\r\n\u{9b}31m\u{202e}"), "\\u{1b}]0;x\\u{7}\\r\\n\\u{9b}31m\\u{202e}");
        assert_eq!(clean_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn times_are_told_relative_to_now() {
        let now = Millis(1_000_000_000_000);
        for (ms, told) in [
            (0i64, "now"),
            (-999, "now"),
            (-1000, "1 s ago"),
            (-119_000, "119 s ago"),
            (-120_000, "2 min ago"),
            (-7_200_000, "2 h ago"),
            (-172_800_000, "2 days ago"),
            (60_000, "in 60 s"),
            (3 * 3_600_000, "in 3 h"),
        ] {
            let at = Millis(now.0.checked_add_signed(ms).unwrap());
            assert_eq!(relative(at, now), told);
            assert_eq!(when(&at.to_string(), now), told);
        }
        assert_eq!(when("soon\u{7}", now), "soon\\u{7}");
    }

    #[test]
    fn json_is_indented_and_keeps_its_digits() {
        let json = r#"{ "b" :1.50,"a": [12345678901234567890123,{}, [ ], "x \"{,}\\" ],"c":null}"#;
        let wanted = "{\n  \"b\": 1.50,\n  \"a\": [\n    12345678901234567890123,\n    {},\n    [],\n    \"x \\\"{,}\\\\\"\n  ],\n  \"c\": null\n}";
        assert_eq!(pretty(json), wanted);
        for same in ["1", "\"a\"", "{}", "{no json"] {
            assert_eq!(pretty(same), same);
        }
    }
}
