//! Iterates over the fields of an encoded message without decoding the message.

use bytes::Buf;
use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// A field of an encoded message.
pub(crate) struct Field<'a> {
    pub(crate) tag: u32,
    /// The value of a varint field; 0 for others.
    pub(crate) value: u64,
    /// The content of a text or message field; empty for others.
    pub(crate) content: &'a [u8],
    /// The complete field, including its key.
    pub(crate) whole: &'a [u8],
}

/// Iterates over an encoded message's fields in order; an error is the last item.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, DecodeError> {
        let from = self.0;
        let (tag, wire_type) = decode_key(&mut self.0)?;
        let mut field = Field { tag, value: 0, content: &[], whole: &[] };
        match wire_type {
            WireType::Varint => field.value = decode_varint(&mut self.0)?,
            WireType::LengthDelimited => {
                let mut behind = self.0;
                skip_field(wire_type, tag, &mut behind, DecodeContext::default())?;
                decode_varint(&mut self.0)?;
                field.content = &self.0[..self.0.len() - behind.len()];
                self.0.advance(field.content.len());
            }
            _ => skip_field(wire_type, tag, &mut self.0, DecodeContext::default())?,
        }
        field.whole = &from[..from.len() - self.0.len()];
        Ok(field)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = (!self.0.is_empty()).then(|| self.read())?;
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
