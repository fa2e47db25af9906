//! How an event of another system is called here: its id and its type in our grammar.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::names::{MAX_EVENT_TYPE, is_event_id, is_reserved_event_type};

/// How many characters a hash has: 128 bits as base64url.
const HASH: usize = 22;

/// The id of an event that `source` calls `id`: the same if it fits our grammar, else `h_` and
/// a hash of both.
pub(super) fn event_id(source: &str, id: &str) -> String {
    if is_event_id(id) { id.to_owned() } else { format!("h_{}", hash(&[source, id])) }
}

/// The type of an event that another system calls `name`: every character that our grammar
/// does not have is an underscore, and so is an empty word. One that is too long is cut and
/// ends with a hash of the whole. There is none for a name that is reserved.
pub(super) fn event_type(name: &str) -> Option<String> {
    let words: Vec<String> = name.split('.').map(word).collect();
    let mut mapped = words.join(".");
    if mapped.len() > MAX_EVENT_TYPE {
        mapped.truncate(MAX_EVENT_TYPE - HASH - 1);
        mapped.push('_');
        mapped.push_str(&hash(&[name]));
    }
    (!is_reserved_event_type(&mapped)).then_some(mapped)
}

fn word(word: &str) -> String {
    if word.is_empty() {
        return "_".to_owned();
    }
    word.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn hash(parts: &[&str]) -> String {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&hash.finish().as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::is_event_type;
    use proptest::prelude::*;

    #[test]
    fn an_id_that_fits_is_kept() {
        for id in ["a", "A-1_b", "17793124-05d4-b198-2fde-7ededc63b103", &"x".repeat(64)] {
            assert_eq!(event_id("any", id), id);
        }
        for id in ["", "a.b", "a/b", "é", &"x".repeat(65)] {
            let mapped = event_id("any", id);
            assert_eq!((mapped.len(), &mapped[..2]), (24, "h_"));
        }
        // It is stored with the event, so it must never change.
        assert_eq!(event_id("/sensors/1", "a.b"), "h_VNqckKUUGrDn0nNByH8uVw");
    }

    #[test]
    fn a_type_is_mapped_character_by_character() {
        for (name, mapped) in [
            ("order.paid", "order.paid"),
            ("Order Placed", "Order_Placed"),
            ("com.example/object:deleted.v2", "com.example_object_deleted.v2"),
            ("é.漢", "_._"),
            ("", "_"),
            ("..a.", "_._.a._"),
            (&"x".repeat(128), &"x".repeat(128)),
            ("steadhooks.a", "steadhooks.a"),
            ("steadhook a", "steadhook_a"),
        ] {
            assert_eq!(event_type(name).as_deref(), Some(mapped), "{name}");
        }
        for name in ["steadhook", "steadhook.test", "steadhook.é", &format!("steadhook.{}", "x".repeat(200))] {
            assert_eq!(event_type(name), None, "{name}");
        }
    }

    #[test]
    fn long_types_with_one_beginning_stay_apart() {
        let long = |end: &str| event_type(&format!("{}{end}", "x".repeat(128))).unwrap();
        assert_eq!((long("a").len(), &long("a")[..106]), (128, format!("{}_", "x".repeat(105)).as_str()));
        assert_ne!(long("a"), long("b"));
        // These are the same before they are cut.
        assert_ne!(long(" "), long("_"));
    }

    proptest! {
        #[test]
        fn every_name_is_mapped_to_a_valid_one(source in ".{0,40}", name in "(steadhook)?[.]?(\\PC|[. a-z]){0,300}") {
            prop_assert!(is_event_id(&event_id(&source, &name)));
            match event_type(&name) {
                Some(mapped) => prop_assert!(is_event_type(&mapped) && !is_reserved_event_type(&mapped), "{mapped}"),
                None => prop_assert!(is_reserved_event_type(&name), "{name}"),
            }
        }

        #[test]
        fn a_name_that_fits_is_kept(name in "[A-Za-z0-9_-]{1,30}([.][A-Za-z0-9_-]{1,30}){0,3}") {
            prop_assume!(is_event_type(&name) && !is_reserved_event_type(&name));
            prop_assert_eq!(event_type(&name), Some(name));
        }

        /// The few characters make it likely that moving one from the source to the id meets
        /// another pair.
        #[test]
        fn ids_that_do_not_fit_are_different_for_every_source_and_id(
            pairs in proptest::collection::hash_set(("[a.]{0,3}", "[a.]{0,3}[.]"), 2..20)
        ) {
            let ids: std::collections::HashSet<_> = pairs.iter().map(|(source, id)| event_id(source, id)).collect();
            prop_assert_eq!(ids.len(), pairs.len());
        }
    }
}
