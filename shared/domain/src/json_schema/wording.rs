//! What is wrong with a payload, in our words. The crate's own repeat values.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};

use crate::fault::{Fault, Faults, pointer_token};

/// The longest pointer, in characters. A fault that is deeper is told of what it is in.
const MAX_POINTER: usize = 400;
/// The longest text of a schema in a message, in characters.
const MAX_SHOWN: usize = 100;

/// Adds the faults that an error of the crate tells. They point below `base`.
pub(super) fn tell(faults: &mut Faults, base: &str, error: &ValidationError<'_>) {
    let path = error.instance_path().as_str();
    let mut at = |name: Option<&str>, message: String| faults.add(|| fault(base, path, name, message));
    let kind = error.kind();
    if let Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } = kind {
        unexpected.iter().for_each(|name| at(Some(name), "unknown field".to_owned()));
    } else if let Kind::Required { property } = kind {
        at(property.as_str(), "the field is missing".to_owned());
    } else if let Kind::PropertyNames { error } = kind {
        at(error.instance().as_str(), "must not have this name".to_owned());
    } else {
        at(None, message(kind));
    }
}

/// What an error says that is about the value at its place.
fn message(kind: &Kind) -> String {
    match kind {
        Kind::AdditionalItems { limit } => format!("has at most {limit} items"),
        Kind::MaxItems { limit } => format!("has at most {limit} items"),
        Kind::MinItems { limit } => format!("has at least {limit} items"),
        Kind::MaxLength { limit } => format!("has at most {limit} characters"),
        Kind::MinLength { limit } => format!("has at least {limit} characters"),
        Kind::MaxProperties { limit } => format!("has at most {limit} fields"),
        Kind::MinProperties { limit } => format!("has at least {limit} fields"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {}", number(*multiple_of)),
        Kind::Type { kind: TypeKind::Single(wanted) } => format!("must be of the type {wanted}"),
        Kind::Type { kind: TypeKind::Multiple(wanted) } => {
            let wanted: Vec<String> = wanted.iter().map(|one| one.to_string()).collect();
            format!("must be of one of these types: {}", wanted.join(", "))
        }
        Kind::Pattern { pattern } => format!("must match the pattern {}", shown(pattern)),
        Kind::Format { format } => format!("must have the format {}", shown(format)),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => "fits none of the alternatives".to_owned(),
        Kind::OneOfMultipleValid { .. } => "fits more than one of the alternatives".to_owned(),
        Kind::Constant { .. } => "is not the value that is allowed".to_owned(),
        Kind::Enum { .. } => "is none of the values that are allowed".to_owned(),
        Kind::Contains => "must contain what the schema says, as often as it says".to_owned(),
        Kind::Not { .. } => "is what the schema excludes".to_owned(),
        Kind::FalseSchema => "must not be there".to_owned(),
        Kind::UniqueItems => "has an item twice".to_owned(),
        Kind::UnevaluatedItems { .. } => "has an item that is not allowed".to_owned(),
        Kind::ContentEncoding { .. } | Kind::FromUtf8 { .. } => "is not encoded as the schema says".to_owned(),
        Kind::ContentMediaType { .. } => "is not of the media type that the schema says".to_owned(),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "cannot be compared with its pattern".to_owned()
        }
        // The others are told field by field, or are none of a value.
        Kind::AdditionalProperties { .. }
        | Kind::UnevaluatedProperties { .. }
        | Kind::Required { .. }
        | Kind::PropertyNames { .. }
        | Kind::Custom { .. } => "is not as the schema says".to_owned(),
        Kind::Referencing(_) => "has a reference that leads nowhere".to_owned(),
    }
}

/// A number without hundreds of zeros.
fn number(number: f64) -> String {
    let text = number.to_string();
    if text.len() <= 20 { text } else { format!("{number:e}") }
}

/// A text of the schema, cut if it is long.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

/// A fault at a path of the crate below `base`, or at the field `name` there. Names are cut as
/// in every pointer. If the pointer would be too long, the fault is told of the last value that
/// can be named.
pub(super) fn fault(base: &str, path: &str, name: Option<&str>, message: String) -> Fault {
    let mut pointer = base.to_owned();
    let mut left = MAX_POINTER.saturating_sub(base.chars().count());
    let unescaped = |token: &str| token.replace("~1", "/").replace("~0", "~");
    let tokens = path.split('/').skip(1).map(unescaped).chain(name.map(str::to_owned));
    for token in tokens.map(|token| pointer_token(&token)) {
        let Some(rest) = left.checked_sub(token.chars().count() + 1) else {
            return Fault::at(pointer, format!("deeper in it: {message}"));
        };
        left = rest;
        pointer.push('/');
        pointer.push_str(&token);
    }
    Fault::at(pointer, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_escaped_and_never_longer_than_a_problem_may_have_it() {
        let at = |path: &str, name| fault("/payload", path, name, "m".to_owned());
        assert_eq!(at("", None), Fault::at("/payload", "m"));
        assert_eq!(at("/a~1b/0", Some("c/d~")), Fault::at("/payload/a~1b/0/c~1d~0", "m"));
        assert_eq!(at("/", None), Fault::at("/payload/", "m"), "a field without a name");
        let long = "é".repeat(200);
        assert_eq!(at(&format!("/{long}"), None).pointer, format!("/payload/{}…", "é".repeat(128)));
        let deep = format!("/{}", "a".repeat(100)).repeat(9);
        let told = at(&deep, None);
        assert_eq!((told.pointer.len(), told.message.as_str()), (8 + 303, "deeper in it: m"));
        let escaped = at(&format!("/{}", "~1".repeat(128)).repeat(9), None);
        assert!(escaped.pointer.chars().count() <= MAX_POINTER, "{escaped:?}");
    }

    #[test]
    fn what_a_schema_says_is_shown_in_short() {
        assert_eq!([2.0, 0.5, 1e300, 5e-324].map(number), ["2", "0.5", "1e300", "5e-324"]);
        assert_eq!(shown("^a$"), "`^a$`");
        assert_eq!(shown(&"é".repeat(101)), format!("`{}…`", "é".repeat(100)));
    }
}
