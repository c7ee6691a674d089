//! Numbers of BSON in the one order that MongoDB gives them, whatever their types.
//!
//! Comparison is exact: no number is rounded to the type of the other. NaN is below all numbers and equal to itself, and
//! the two zeros are equal.

use std::cmp::Ordering;

use bson::{Bson, Decimal128, RawBsonRef};

/// A number of any of the four types.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
    Decimal(Decimal),
}

/// What a `Decimal128` says (IEEE 754-2008, binary integer decimal).
#[derive(Clone, Copy, Debug)]
pub(super) enum Decimal {
    Nan,
    Infinite { negative: bool },
    Finite { negative: bool, coefficient: u128, exponent: i32 },
}

/// The largest coefficient: 34 digits. What is above is not canonical, and stands for zero.
const MAX_COEFFICIENT: u128 = 10_u128.pow(34) - 1;

const EXPONENT_BIAS: i32 = 6176;

impl Decimal {
    pub(super) fn read(decimal: Decimal128) -> Self {
        let bits = u128::from_le_bytes(decimal.bytes());
        let negative = bits >> 127 == 1;
        match bits >> 122 & 0b1_1111 {
            0b1_1111 => return Self::Nan,
            0b1_1110 => return Self::Infinite { negative },
            _ => {}
        }
        // With these two bits the coefficient would have more than 34 digits.
        let (coefficient, exponent) = if bits >> 125 & 0b11 == 0b11 {
            (0, bits >> 111)
        } else {
            (bits & ((1 << 113) - 1), bits >> 113)
        };
        let coefficient = if coefficient > MAX_COEFFICIENT { 0 } else { coefficient };
        let exponent = i32::try_from(exponent & 0x3fff).unwrap_or_default() - EXPONENT_BIAS;
        Self::Finite { negative, coefficient, exponent }
    }

    fn from_int(int: i64) -> Self {
        Self::Finite { negative: int < 0, coefficient: int.unsigned_abs().into(), exponent: 0 }
    }

    /// The nearest `i64`, of two that are as near the even one.
    fn rounded(self) -> Option<i64> {
        let whole = self.truncated()?;
        let negative = self.is_negative();
        let middle =
            Self::Finite { negative, coefficient: u128::from(whole.unsigned_abs()) * 10 + 5, exponent: -1 };
        let beyond = match self.cmp(middle) {
            Ordering::Equal => whole % 2 != 0,
            ordering => ordering.is_gt() != negative,
        };
        if beyond { whole.checked_add(if negative { -1 } else { 1 }) } else { Some(whole) }
    }

    fn is_negative(self) -> bool {
        match self {
            Self::Nan => false,
            Self::Infinite { negative } | Self::Finite { negative, .. } => negative,
        }
    }

    fn truncated(self) -> Option<i64> {
        let Self::Finite { negative, coefficient, exponent } = self else { return None };
        let power = 10_u128.checked_pow(exponent.unsigned_abs());
        let magnitude = match power {
            _ if coefficient == 0 => 0,
            Some(power) if exponent < 0 => coefficient / power,
            None if exponent < 0 => 0,
            power => coefficient.checked_mul(power?)?,
        };
        let magnitude = i128::try_from(magnitude).ok()?;
        i64::try_from(if negative { -magnitude } else { magnitude }).ok()
    }

    /// The nearest double.
    fn to_double(self) -> f64 {
        match self {
            Self::Nan => f64::NAN,
            Self::Infinite { negative } => {
                if negative {
                    f64::NEG_INFINITY
                } else {
                    f64::INFINITY
                }
            }
            Self::Finite { negative, coefficient, exponent } => {
                let sign = if negative { "-" } else { "" };
                // The parser of the standard library rounds correctly.
                format!("{sign}{coefficient}e{exponent}")
                    .parse()
                    .expect("digits and an exponent are a number")
            }
        }
    }

    fn cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Nan, Self::Nan) => Ordering::Equal,
            (Self::Nan, _) => Ordering::Less,
            (_, Self::Nan) => Ordering::Greater,
            (Self::Infinite { negative: a }, Self::Infinite { negative: b }) => b.cmp(&a),
            (Self::Infinite { negative }, _) => below_if(negative),
            (_, Self::Infinite { negative }) => below_if(negative).reverse(),
            (
                Self::Finite { negative: a_negative, coefficient: a, exponent: a_exponent },
                Self::Finite { negative: b_negative, coefficient: b, exponent: b_exponent },
            ) => match (a, b) {
                (0, 0) => Ordering::Equal,
                (0, _) => below_if(!b_negative),
                (_, 0) => below_if(a_negative),
                _ if a_negative != b_negative => below_if(a_negative),
                _ => {
                    let magnitudes = cmp_magnitudes((a, a_exponent), (b, b_exponent));
                    if a_negative { magnitudes.reverse() } else { magnitudes }
                }
            },
        }
    }
}

fn below_if(below: bool) -> Ordering {
    if below { Ordering::Less } else { Ordering::Greater }
}

/// Compares `a.0 * 10^a.1` with `b.0 * 10^b.1`, neither of them zero.
fn cmp_magnitudes(a: (u128, i32), b: (u128, i32)) -> Ordering {
    let digits = |(coefficient, _): (u128, i32)| coefficient.ilog10().cast_signed();
    (digits(a) + a.1).cmp(&(digits(b) + b.1)).then_with(|| {
        // With the first digits at the same place the exponents differ by less than 34: this does not overflow.
        let scale = |coefficient: u128, by: i32| coefficient * 10_u128.pow(by.unsigned_abs());
        let lowest = a.1.min(b.1);
        scale(a.0, a.1 - lowest).cmp(&scale(b.0, b.1 - lowest))
    })
}

impl Number {
    /// The number that `value` is.
    pub(super) fn read(value: RawBsonRef<'_>) -> Option<Self> {
        match value {
            RawBsonRef::Int32(int) => Some(Self::Int(int.into())),
            RawBsonRef::Int64(int) => Some(Self::Int(int)),
            RawBsonRef::Double(double) => Some(Self::Double(double)),
            RawBsonRef::Decimal128(decimal) => Some(Self::Decimal(Decimal::read(decimal))),
            _ => None,
        }
    }

    /// The same of a value that is not raw.
    pub(super) fn of(value: &Bson) -> Option<Self> {
        match value {
            Bson::Int32(int) => Some(Self::Int((*int).into())),
            Bson::Int64(int) => Some(Self::Int(*int)),
            Bson::Double(double) => Some(Self::Double(*double)),
            Bson::Decimal128(decimal) => Some(Self::Decimal(Decimal::read(*decimal))),
            _ => None,
        }
    }

    pub(super) fn is_nan(self) -> bool {
        match self {
            Self::Int(_) => false,
            Self::Double(double) => double.is_nan(),
            Self::Decimal(decimal) => matches!(decimal, Decimal::Nan),
        }
    }

    /// Its whole part; none where an `i64` cannot hold it.
    #[expect(clippy::cast_possible_truncation, reason = "the double is in the range of i64")]
    pub(super) fn truncated(self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(int),
            Self::Double(double) => {
                (-ABOVE_INT..ABOVE_INT).contains(&double.trunc()).then_some(double.trunc() as i64)
            }
            Self::Decimal(decimal) => decimal.truncated(),
        }
    }

    /// The bits that tests of bits look at: none where a double has a fraction, or is too large. A decimal is rounded, to
    /// even where two are as near, and one that is too large counts as the lowest `i64`.
    pub(super) fn as_bits(self) -> Option<u64> {
        let int = match self {
            Self::Decimal(decimal) => decimal.rounded().unwrap_or(i64::MIN),
            other => other.truncated().filter(|whole| other.cmp(Self::Int(*whole)).is_eq())?,
        };
        Some(int.cast_unsigned())
    }

    /// The nearest double. It keeps the order: of two numbers the lower has none that is higher.
    #[expect(clippy::cast_precision_loss, reason = "it is the nearest that is asked for")]
    pub(super) fn nearest_double(self) -> f64 {
        let double = match self {
            Self::Int(int) => int as f64,
            Self::Double(double) => double,
            Self::Decimal(decimal) => decimal.to_double(),
        };
        // The sum of a negative zero and zero is zero.
        if double.is_nan() { f64::NAN } else { double + 0.0 }
    }

    pub(super) fn cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Double(a), Self::Double(b)) => cmp_doubles(a, b),
            (Self::Int(a), Self::Double(b)) => cmp_int_double(a, b),
            (Self::Double(a), Self::Int(b)) => cmp_int_double(b, a).reverse(),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Int(a), Self::Decimal(b)) => Decimal::from_int(a).cmp(b),
            (Self::Decimal(a), Self::Int(b)) => a.cmp(Decimal::from_int(b)),
            (Self::Double(a), Self::Decimal(b)) => cmp_double_decimal(a, b),
            (Self::Decimal(a), Self::Double(b)) => cmp_double_decimal(b, a).reverse(),
        }
    }
}

fn cmp_doubles(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// 2 to the power of 63: every double from here on is above every `i64`.
const ABOVE_INT: f64 = 9_223_372_036_854_775_808.0;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the double is in the range of i64, and its fraction is compared"
)]
fn cmp_int_double(int: i64, double: f64) -> Ordering {
    if double.is_nan() || double < -ABOVE_INT {
        Ordering::Greater
    } else if double >= ABOVE_INT {
        Ordering::Less
    } else {
        int.cmp(&(double as i64)).then_with(|| cmp_doubles(0.0, double.fract()))
    }
}

fn cmp_double_decimal(double: f64, decimal: Decimal) -> Ordering {
    // Rounding keeps the order: where the nearest double is another one, it lies on the same side.
    cmp_doubles(double, decimal.to_double()).then_with(|| match decimal {
        Decimal::Finite { negative, .. } if double.is_infinite() => below_if(negative),
        Decimal::Nan | Decimal::Infinite { .. } | Decimal::Finite { coefficient: 0, .. } => Ordering::Equal,
        Decimal::Finite { negative, .. } if double == 0.0 => below_if(!negative),
        Decimal::Finite { negative, coefficient, exponent } => {
            let magnitudes = cmp_exact_magnitudes(double, coefficient, exponent);
            if negative { magnitudes.reverse() } else { magnitudes }
        }
    })
}

/// Compares the magnitude of a double, finite and not zero, with `coefficient * 10^exponent`, which is about as large.
fn cmp_exact_magnitudes(double: f64, coefficient: u128, exponent: i32) -> Ordering {
    let bits = double.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, binary_exponent) = match i32::try_from(bits >> 52 & 0x7ff).unwrap_or_default() {
        0 => (fraction, -1074),
        biased => (fraction | 1 << 52, biased - 1075),
    };
    let mut left = Natural::new(mantissa.into());
    let mut right = Natural::new(coefficient);
    // 10^n = 5^n * 2^n, and a negative power goes to the other side.
    let fives = if exponent < 0 { &mut left } else { &mut right };
    (0..exponent.unsigned_abs()).for_each(|_| fives.multiply(5));
    let twos = binary_exponent - exponent;
    let shifted = if twos < 0 { &mut right } else { &mut left };
    (0..twos.unsigned_abs()).for_each(|_| shifted.multiply(2));
    left.cmp(&right)
}

/// A natural number of any size, its lowest 32 bits first, without leading zeros.
struct Natural(Vec<u32>);

impl Natural {
    fn new(value: u128) -> Self {
        let mut natural = Self(Vec::new());
        let mut rest = value;
        while rest > 0 {
            natural.0.push(low(rest));
            rest >>= 32;
        }
        natural
    }

    fn multiply(&mut self, factor: u32) {
        let mut carry = 0_u128;
        for digit in &mut self.0 {
            carry += u128::from(*digit) * u128::from(factor);
            *digit = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(low(carry));
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

fn low(value: u128) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn decimal(text: &str) -> Number {
        Number::Decimal(Decimal::read(text.parse().unwrap()))
    }

    #[test]
    fn numbers_of_different_types_compare_exactly() {
        let ordered = [
            Number::Double(f64::NAN),
            Number::Double(f64::NEG_INFINITY),
            decimal("-9.999999999999999999999999999999999E+6144"),
            Number::Double(-f64::MAX),
            Number::Int(i64::MIN),
            decimal("-1"),
            Number::Double(-5e-324),
            decimal("-1E-6176"),
            Number::Double(-0.0),
            decimal("1E-6176"),
            Number::Double(5e-324),
            decimal("0.1"),
            decimal("0.1000000000000000055511151231257827"),
            Number::Double(0.1),
            decimal("0.1000000000000000055511151231257828"),
            Number::Int(1),
            Number::Double(1.5),
            Number::Int(9_007_199_254_740_992),
            Number::Int(9_007_199_254_740_993),
            Number::Double(9_007_199_254_740_994.0),
            Number::Int(i64::MAX),
            Number::Double(9_223_372_036_854_775_808.0),
            decimal("9223372036854775808.5"),
            Number::Double(f64::MAX),
            decimal("1E+309"),
            decimal("Infinity"),
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(a.cmp(*b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn the_same_number_is_equal_in_every_type() {
        let equal = [
            vec![Number::Int(0), Number::Double(-0.0), decimal("-0E+6000"), decimal("0.00")],
            vec![Number::Int(-2), Number::Double(-2.0), decimal("-2.000"), decimal("-0.2E+1")],
            vec![Number::Double(0.5), decimal("0.50"), decimal("5E-1")],
            vec![Number::Double(f64::NAN), Number::Double(-f64::NAN), decimal("NaN")],
            vec![Number::Double(f64::INFINITY), decimal("Infinity")],
            vec![Number::Int(1 << 60), Number::Double(2_f64.powi(60)), decimal("1152921504606846976")],
            vec![Number::Double(1e300), decimal("1.000000000000000052504760255204420E+300")],
        ];
        for (a, b) in
            equal[..6].iter().flat_map(|set| set.iter().flat_map(|a| set.iter().map(move |b| (a, b))))
        {
            assert_eq!(a.cmp(*b), Ordering::Equal, "{a:?} and {b:?}");
        }
        // 34 digits do not reach the exact value of this double.
        assert_eq!(equal[6][0].cmp(equal[6][1]), Ordering::Greater);
    }

    #[test]
    fn a_coefficient_of_more_than_34_digits_is_zero() {
        let too_large = Decimal128::from_bytes((0x3040_u128 << 112 | 10_u128.pow(34)).to_le_bytes());
        let other_form = Decimal128::from_bytes((0x6000_u128 << 112 | 1).to_le_bytes());
        for read in [too_large, other_form].map(Decimal::read) {
            assert_eq!(Number::Decimal(read).cmp(Number::Int(0)), Ordering::Equal, "{read:?}");
        }
    }
}
