//! A place in a list that is ordered by time and then by id. Lists are paged by
//! places and not by offsets, so that a page is right whatever changes between
//! two requests: what did not change keeps its place.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::identity::{is_delivery_id, is_webhook_id};
use crate::time::Millis;

/// The largest time that sorted sets keep exactly: their scores are doubles.
const MAX_AT: u64 = (1 << 53) - 1;

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// By time first.
    pub at: Millis,
    /// By id, byte by byte, among those of one millisecond.
    pub id: String,
}

impl Place {
    /// The place as a text that sorts as places do.
    pub fn sortable(&self) -> String {
        format!("{:016}.{}", self.at.0, self.id)
    }

    /// The place that [`sortable`](Self::sortable) wrote.
    pub fn from_sortable(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some(Self { at: Millis(at.parse().ok()?), id: id.to_owned() })
    }

    /// The place as an opaque cursor.
    pub fn cursor(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}.{}", self.at.0, self.id))
    }

    /// The place that a cursor names; `None` for one that is not ours.
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (at, id) = text.split_once('.')?;
        let place = Self { at: Millis(at.parse().ok()?), id: id.to_owned() };
        let ours = place.at.0 <= MAX_AT && (is_webhook_id(id) || is_delivery_id(id)) && place.cursor() == cursor;
        ours.then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_our_cursors_are_places() {
        let place = Place { at: Millis(7), id: "a:b-c_d".into() };
        assert_eq!(Place::from_cursor(&place.cursor()), Some(place));
        let made = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for cursor in ["", "x", "7.a", "%00"] {
            assert_eq!(Place::from_cursor(cursor), None, "{cursor}");
        }
        for text in ["7", "7.", ".a", "-1.a", "+7.a", "07.a", "7.a.b", "7.ä", "9007199254740992.a", "7.a\n"] {
            assert_eq!(Place::from_cursor(&made(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn sortable_texts_sort_as_places_do(a in (0u64..10_000, "[A-Za-z0-9_:-]{1,9}"), b in (0u64..10_000, "[A-Za-z0-9_:-]{1,9}")) {
            let [a, b] = [a, b].map(|(at, id)| Place { at: Millis(at), id });
            prop_assert_eq!(a.cmp(&b), a.sortable().cmp(&b.sortable()));
            prop_assert_eq!(Place::from_sortable(&a.sortable()), Some(a));
        }

        #[test]
        fn any_text_as_a_cursor_is_a_place_that_names_itself_or_none(text in ".*") {
            for cursor in [text.clone(), URL_SAFE_NO_PAD.encode(&text)] {
                if let Some(place) = Place::from_cursor(&cursor) {
                    prop_assert_eq!(place.cursor(), cursor);
                }
            }
        }
    }
}
