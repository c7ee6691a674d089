//! Why a stream ends: the close codes that a client sees. What it does then is its own: docs/protocols.md says it.

macro_rules! closes {
    ($( $(#[$doc:meta])* $close:ident => $code:literal, $reason:literal; )*) => {
        /// The closes that the server sends. Codes 4000 to 4999 are private to the application (RFC 6455, section 7.4.2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Close { $( $(#[$doc])* $close, )* }

        impl Close {
            /// Every close, in the order of the table.
            pub const ALL: &'static [Close] = &[ $( Close::$close, )* ];

            /// The WebSocket close code; SSE sends it as the data of its `close` event.
            pub const fn code(self) -> u16 {
                match self { $( Close::$close => $code, )* }
            }

            /// The close reason: at most 123 bytes (RFC 6455, section 5.5), and nothing of any document or request.
            pub const fn reason(self) -> &'static str {
                match self { $( Close::$close => $reason, )* }
            }
        }
    };
}

closes! {
    /// The node shuts down.
    GoingAway => 1001, "the node shuts down";
    /// A data frame that breaks RFC 6455.
    ProtocolError => 1002, "protocol error";
    /// A text message that is not UTF-8.
    InvalidText => 1007, "text is not valid UTF-8";
    /// A client's message over the limit, 64 KiB unless configured.
    MessageTooBig => 1009, "message too big";
    /// A fault of ours.
    Internal => 1011, "internal fault";
    /// Too much to do.
    Overloaded => 1013, "overloaded";
    /// The definition was changed.
    DefinitionChanged => 4001, "the definition changed";
    /// The stream, its collection, or its database is gone.
    Gone => 4002, "the stream, its collection, or its database is gone";
    /// The client reads too slowly.
    TooSlow => 4003, "too slow: the queue is full";
    /// Events between the last position and now cannot be had any more.
    HistoryLost => 4004, "history lost: reload, then reconnect";
    /// The pipeline fails on an event.
    EventFailed => 4010, "the pipeline fails on an event";
    /// The credentials ran out.
    Expired => 4401, "credentials expired";
    /// The permission was withdrawn.
    NoLongerPermitted => 4403, "no longer permitted";
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn every_reason_fits_a_close_frame_and_every_code_is_used_once() {
        let mut codes: Vec<_> = Close::ALL.iter().map(|close| close.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Close::ALL.len());
        assert!(Close::ALL.iter().all(|close| close.reason().len() <= 123));
    }
}
