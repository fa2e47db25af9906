//! The numbers that a `numeric` accepts, such as `[">", 0, "<=", 5]`.

use std::ops::Bound::{Excluded, Included, Unbounded};

use serde_json::value::RawValue;

use super::number::comparable;
use super::value::Bound;
use crate::json::elements;
use crate::object::parsed;

/// What is wrong, and with which element; `None` for the whole.
type Fault = (Option<usize>, &'static str);

const FORM: &str = "must be an array such as [\"=\", 1], [\"<\", 1] or [\">=\", 0, \"<\", 10]";

/// Reads a range.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn range(raw: &RawValue) -> Result<(Bound, Bound), Fault> {
    let Ok((items, count)) = elements(raw, 4) else { return Err((None, FORM)) };
    let [operator, number, more @ ..] = items.as_slice() else { return Err((None, FORM)) };
    let value = double(number).map_err(|why| (Some(1), why))?;
    let (low, high) = match operator_in(operator).as_str() {
        "=" if count == 2 => (Included(value), Included(value)),
        "<" if count == 2 => (Unbounded, Excluded(value)),
        "<=" if count == 2 => (Unbounded, Included(value)),
        ">" => (Excluded(value), Unbounded),
        ">=" => (Included(value), Unbounded),
        "=" | "<" | "<=" => return Err((Some(2), "only `>` and `>=` can be followed by another bound")),
        _ => return Err((Some(0), "must be one of =, <, <=, > and >=")),
    };
    match more {
        [] => Ok((low, high)),
        [operator, number] if count == 4 => {
            let most = double(number).map_err(|why| (Some(3), why))?;
            let high = match operator_in(operator).as_str() {
                "<" => Excluded(most),
                "<=" => Included(most),
                _ => return Err((Some(2), "must be one of < and <=")),
            };
            if value < most { Ok((low, high)) } else { Err((Some(3), "must be more than the lower bound")) }
        }
        _ => Err((None, FORM)),
    }
}

fn operator_in(raw: &RawValue) -> String {
    parsed(raw).unwrap_or_default()
}

fn double(raw: &RawValue) -> Result<f64, &'static str> {
    let text = raw.get();
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err("must be a number");
    }
    comparable(text).ok_or("has more digits than can be compared")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_one_or_two_bounds_that_leave_room() {
        let read = |text: &str| range(serde_json::from_str(text).unwrap()).map_err(|(at, _)| at);
        assert_eq!(read(r#"["=",1.50]"#), Ok((Included(1.5), Included(1.5))));
        assert_eq!(read(r#"[">",-1,"<=",1e3]"#), Ok((Excluded(-1.0), Included(1000.0))));
        assert_eq!(read(r#"["<",0]"#), Ok((Unbounded, Excluded(0.0))));
        for (bad, at) in [
            ("[]", None),
            ("1", None),
            (r#"["="]"#, None),
            (r#"["!=",1]"#, Some(0)),
            (r#"[1,1]"#, Some(0)),
            (r#"["=","1"]"#, Some(1)),
            (r#"["=",null]"#, Some(1)),
            (r#"["=",12345678901234567890]"#, Some(1)),
            (r#"["=",1,"<",2]"#, Some(2)),
            (r#"["<",1,">",0]"#, Some(2)),
            (r#"[">",1,"=",2]"#, Some(2)),
            (r#"[">",1,"<"]"#, None),
            (r#"[">",1,"<",true]"#, Some(3)),
            (r#"[">=",1,"<=",1.0]"#, Some(3)),
            (r#"[">",1,"<",2,"<",3]"#, None),
        ] {
            assert_eq!(read(bad), Err(at), "{bad}");
        }
    }
}
