//! The scalar for whole numbers that may exceed the 32 bits of `Int`.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

/// A whole number, sent as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BigInt(pub i64);

impl BigInt {
    /// The largest number that every client reads exactly: 2^53 - 1.
    pub const MAX: i64 = 9_007_199_254_740_991;
}

/// The integer that a number with an empty fractional part means, as for `Int` (GraphQL
/// specification, section 3.5).
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is in range")]
    let whole =
        (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_991.0).then_some(number as i64);
    whole
}

/// A whole number that may exceed the 32 bits of `Int`, from -(2^53 - 1) to 2^53 - 1. It is a JSON
/// number, which JavaScript reads exactly: generate `number` for it. In an input, a string of
/// digits is accepted too.
#[Scalar(name = "BigInt", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259#section-6")]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (-Self::MAX..=Self::MAX).contains(&number) => Ok(Self(number)),
            _ => Err(InputValueError::custom("must be a whole number of at most 2^53 - 1")),
        }
    }

    fn to_value(&self) -> Value {
        self.0.clamp(-Self::MAX, Self::MAX).into()
    }
}
