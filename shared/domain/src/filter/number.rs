//! Numbers as the matcher compares them: as doubles, if the double says the same as the
//! text. Others are compared by their text alone.

/// Digits that a double keeps, whatever they are.
const SAFE_DIGITS: usize = 15;
/// Doubles of this size keep `SAFE_DIGITS` digits.
const SAFE_SIZES: std::ops::Range<f64> = 1e-290..1e290;

/// The double that a JSON number is, if it is exactly that number when it is written with as
/// few digits as possible. A number with too many digits, or of a size beyond doubles, is
/// none.
pub(super) fn comparable(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    let digits = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    let is_safe = digits <= SAFE_DIGITS && SAFE_SIZES.contains(&value.abs());
    // No number is both 0 and -0.
    (is_safe || Decimal::read(text)? == Decimal::read(&format!("{value:e}"))?).then_some(value + 0.0)
}

/// A decimal number: `0.digits` × 10^`exponent`, without zeros at either end.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)?.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let Some(first) = all.iter().position(|digit| *digit != b'0') else {
            return Some(Self { negative: false, digits: Vec::new(), exponent: 0 });
        };
        let last = all.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
        let exponent = i64::from(exponent) + i64::try_from(whole.len()).ok()? - i64::try_from(first).ok()?;
        Some(Self { negative, digits: all.get(first..=last)?.to_vec(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_double_if_no_digit_is_lost() {
        for (text, wanted) in [
            ("0", 0.0),
            ("-0.0", 0.0),
            ("1", 1.0),
            ("1.0", 1.0),
            ("10e-1", 1.0),
            ("1E3", 1000.0),
            ("-5000000000", -5e9),
            ("9007199254740993e0", f64::NAN),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("0.1", 0.1),
            ("0.10000000000000000000000", 0.1),
            ("0.1000000000000000055511151231257827", f64::NAN),
            ("1e999", f64::NAN),
            ("1e-999", f64::NAN),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", 5e-324),
            ("4e-324", f64::NAN),
            ("1e99999999999", f64::NAN),
        ] {
            let wanted = Some(wanted).filter(|wanted| !wanted.is_nan());
            assert_eq!(comparable(text), wanted, "{text}");
        }
        assert!(comparable("-0").unwrap().is_sign_positive());
    }
}
