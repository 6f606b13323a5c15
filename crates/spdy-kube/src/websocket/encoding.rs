//! The encoding of messages. Everything above this file uses the binary form, in which the first
//! byte of a message is the channel.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// The form of the messages of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// One byte for the channel, and then the payload.
    Binary,
    /// The channel as an ASCII digit, and then the payload in base64. This form is text, for
    /// browsers that support nothing else.
    Base64,
}

impl Encoding {
    /// Returns the message that carries a channel and its payload.
    pub(crate) fn encode(self, message: Bytes) -> Message {
        match (self, message.split_first()) {
            (Self::Base64, Some((channel, payload))) => {
                let mut text = String::with_capacity(1 + payload.len().div_ceil(3) * 4);
                text.push(char::from(channel.wrapping_add(FIRST)));
                BASE64_STANDARD.encode_string(payload, &mut text);
                Message::text(text)
            }
            _ => Message::Binary(message),
        }
    }

    /// Returns the channel and the payload of a data message. Text and binary messages have the
    /// same meaning.
    ///
    /// A character below the digits becomes a channel that does not exist.
    pub(crate) fn decode(self, message: Bytes) -> Result<Bytes, Malformed> {
        match (self, message.split_first()) {
            (Self::Base64, Some((digit, payload))) => {
                let mut decoded = Vec::with_capacity(1 + payload.len() / 4 * 3);
                decoded.push(digit.wrapping_sub(FIRST));
                BASE64_STANDARD
                    .decode_vec(payload, &mut decoded)
                    .map_err(|_| Malformed)?;
                Ok(decoded.into())
            }
            _ => Ok(message),
        }
    }
}

/// The error for a message whose payload is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message is not base64")
    }
}

/// The digit of channel 0. Channels above 9 use the characters after the digits, as in Kubernetes.
const FIRST: u8 = b'0';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_carries_a_digit_and_the_payload() {
        let message = Encoding::Base64.encode(Bytes::from_static(b"\x01hello"));
        assert_eq!(message, Message::text("1aGVsbG8="));
        let decoded = Encoding::Base64.decode(message.into_data());
        assert_eq!(decoded, Ok(Bytes::from_static(b"\x01hello")));
        let last = Encoding::Base64.encode(Bytes::from_static(&[63, 0]));
        assert_eq!(last, Message::text("oAA=="), "the last channel of 32 ports");
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for wrong in ["0a", "0aGVsbG8", "0aGVs bG8=", "0=", "0\u{e9}AAA"] {
            let decoded = Encoding::Base64.decode(Bytes::from(wrong));
            assert_eq!(decoded, Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_channel_that_is_no_digit_is_one_that_nobody_has() {
        for channel in ["/", " ", "\0"] {
            let decoded = Encoding::Base64.decode(Bytes::from(channel)).unwrap();
            assert!(decoded[0] > 200, "{channel:?}");
        }
        assert_eq!(Encoding::Base64.decode(Bytes::new()), Ok(Bytes::new()));
    }

    #[test]
    fn the_binary_form_is_what_it_is() {
        let message = Bytes::from_static(b"\x02text");
        let encoded = Encoding::Binary.encode(message.clone());
        assert_eq!(encoded, Message::Binary(message.clone()));
        assert_eq!(Encoding::Binary.decode(message.clone()), Ok(message));
    }
}
