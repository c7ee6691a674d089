//! Very many clients in one thread, read in turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as Polled, Poll};

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::LocalSet;

use super::endpoints::Stream;
use super::socket::{Language, Socket};

/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// What is done with what comes.
pub(super) trait Taker {
    /// Reads what has come to this socket, if anything has. False at its end.
    fn poll(&mut self, socket: &mut Socket, polled: &mut Polled<'_>) -> Poll<Result<bool>>;

    /// A connection has ended, whatever ended it.
    fn ended(&mut self);
}

/// Opens so many sockets of a stream, in its plain form.
pub(super) async fn open(stream: &Stream, language: Language, count: usize) -> Result<Vec<Socket>> {
    stream::iter(0..count)
        .map(|number| {
            let path = stream.path.replace("{n}", &number.to_string());
            Socket::open_in(language, &stream.server, path, None)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Reads all of them for as long as what is returned runs.
pub(super) fn read<T: Taker + 'static>(sockets: Vec<Socket>, taker: &Rc<RefCell<T>>) -> LocalSet {
    let readers = LocalSet::new();
    for mut socket in sockets {
        let taker = Rc::clone(taker);
        readers.spawn_local(async move {
            while poll_fn(|polled| taker.borrow_mut().poll(&mut socket, polled))
                .await
                .is_ok_and(|goes_on| goes_on)
            {}
            taker.borrow_mut().ended();
        });
    }
    readers
}
