//! The frames of a server (RFC 6455, section 5.2): taken apart with as little work as possible.

/// A frame that has come as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Text or binary.
    Message(&'a [u8]),
    Ping,
    /// The code, where there is one.
    Close(Option<u16>),
    Other,
}

/// The frame at the beginning of these bytes, and its length; `None` while it has not come as a whole. Servers do not mask,
/// and this one does not fragment.
pub(super) fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&[head, length], rest) = bytes.split_first_chunk()?;
    let (length, header) = match length & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(header..header + length)?;
    let frame = match head & 0x0f {
        1 | 2 => Frame::Message(payload),
        8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        9 => Frame::Ping,
        _ => Frame::Other,
    };
    Some((frame, header + length))
}

/// An empty pong, masked with zeros.
pub(super) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A text in one frame; that of a client is masked, with zeros.
pub(super) fn text(text: &[u8], of_client: bool) -> Vec<u8> {
    let mask = if of_client { 0x80 } else { 0 };
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(mask + length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(mask + 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(mask + 127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    if of_client {
        frame.extend([0; 4]);
    }
    frame.extend(text);
    frame
}

/// When the document of an event was written: the number behind `"at":`, in microseconds since 1970.
pub(super) fn written_at(event: &[u8]) -> Option<u64> {
    number_behind(event, b"\"at\":").filter(|at| *at > 0)
}

/// The number of an event's document: that behind `"n":`.
pub(super) fn number(event: &[u8]) -> Option<u64> {
    number_behind(event, b"\"n\":")
}

/// The position of a v1 message.
pub(super) fn position(message: &[u8]) -> Option<&[u8]> {
    let rest = behind(message, b"\"position\":\"")?;
    rest.split(|byte| *byte == b'"').next()
}

/// The type of a v1 message, which is its first member.
pub(super) fn kind(message: &[u8]) -> Option<&[u8]> {
    message.strip_prefix(b"{\"type\":\"")?.split(|byte| *byte == b'"').next()
}

fn number_behind(event: &[u8], name: &[u8]) -> Option<u64> {
    // Some write a space behind a name.
    let digits = behind(event, name)?.trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number, digit| Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0')))
}

fn behind<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let place = bytes.windows(name.len()).position(|window| window == name)?;
    Some(&bytes[place + name.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_taken_apart_once_they_are_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..126 => bytes.push(u8::try_from(length).unwrap()),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
                }
            }
            bytes.resize(bytes.len() + length, b'x');
            assert_eq!(first(&bytes[..bytes.len() - 1]), None);
            let whole = bytes.len();
            bytes.push(0x89);
            assert_eq!(first(&bytes), Some((Frame::Message(&vec![b'x'; length]), whole)));
        }
        assert_eq!(first(&[0x89, 0]), Some((Frame::Ping, 2)));
        assert_eq!(first(&[0x88, 2, 0x0f, 0xa3]), Some((Frame::Close(Some(4003)), 4)));
    }

    #[test]
    fn the_time_of_writing_is_read_from_an_event() {
        assert_eq!(
            written_at(br#"{"fullDocument":{"at":1700000000000000,"n":1}}"#),
            Some(1_700_000_000_000_000)
        );
        assert_eq!(written_at(br#"{"at": 17}"#), Some(17));
        assert_eq!(written_at(br#"{"at":"soon"}"#), None);
    }

    #[test]
    fn a_typed_message_tells_its_kind_its_position_and_the_number_of_its_document() {
        let event = br#"{"type":"event","position":"aB-_","event":{"fullDocument":{"at":17,"n":0}}}"#;
        assert_eq!(
            (kind(event), position(event), number(event)),
            (Some(&b"event"[..]), Some(&b"aB-_"[..]), Some(0))
        );
        assert_eq!(number(br#"{"type":"ready","position":"x"}"#), None);
    }
}
