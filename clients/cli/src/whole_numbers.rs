//! JSON text in which a whole number looks like one.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// Up to here every whole number has a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes numbers such as 2.0 as `2`, and leaves the rest to another formatter.
///
/// A `google.protobuf.Struct` holds doubles only; people and most programs that wrote
/// `2` want to read `2`.
pub(crate) struct WholeNumbers<F>(pub(crate) F);

impl<F: Formatter> Formatter for WholeNumbers<F> {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value.fract() == 0.0 && value.abs() <= EXACT {
            // Exact, by the test above; minus zero becomes zero.
            self.0.write_i64(writer, value as i64)
        } else {
            self.0.write_f64(writer, value)
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::ser::CompactFormatter;

    use super::WholeNumbers;

    #[test]
    fn whole_numbers_have_no_fraction_and_others_keep_every_digit() {
        let numbers = [2.0, -0.0, 0.1, 9_007_199_254_740_992.0, -5.0, 1e300, 2.5];
        let mut text = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut text, WholeNumbers(CompactFormatter));
        numbers.serialize(&mut writer).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "[2,0,0.1,9007199254740992,-5,1e+300,2.5]"
        );
    }
}
