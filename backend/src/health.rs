//! Whether the process is up, and whether it can serve.

use std::time::{Duration, Instant};

use http::Method;
use shared::{
    refusal::{Kind, Refusal},
    request::Head,
};
use tokio::{sync::Mutex, time::timeout};
use warp::reply::Response;

use crate::{answer, app::App, mongo};

/// Probes wait a second, unless they are told otherwise.
const ANSWERS_WITHIN: Duration = Duration::from_millis(900);

/// For how long what MongoDB answered counts for all who ask.
const REMEMBERED: Duration = Duration::from_millis(500);

/// Whether MongoDB answers, asked for all probes at once.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, Result<(), Refusal>)>>);

impl Readiness {
    /// What `ask` answers, or answered a moment ago.
    async fn of(&self, ask: impl Future<Output = Result<(), Refusal>>) -> Result<(), Refusal> {
        let mut last = self.0.lock().await;
        if let Some((_, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED) {
            return answer.clone();
        }
        let answer = ask.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

fn away() -> Refusal {
    Refusal::new(Kind::Unavailable, "MongoDB is not reachable")
}

const METHODS: &str = "GET, HEAD, OPTIONS";

fn check_method(head: &Head) -> Result<(), Refusal> {
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Refusal::method_not_allowed(head.method.as_str(), METHODS))
}

/// `/_health`: 200 for as long as the process answers at all.
pub fn health(head: &Head) -> Result<Response, Refusal> {
    check_method(head)?;
    Ok(answer::json(r#"{"status":"up"}"#.to_owned()))
}

/// `/_ready`: 200 when MongoDB answers and every change of metadata, users, and rules is followed, else 503.
pub async fn ready(app: &App, head: &Head) -> Result<Response, Refusal> {
    check_method(head)?;
    app.catalog.followed_now()?;
    app.collections.iter().try_for_each(|followed| followed.check())?;
    let ask = async {
        let asked = timeout(ANSWERS_WITHIN, app.mongo.ready()).await;
        asked.map_err(|_| away())?.map_err(|error| mongo::refusal(&error))
    };
    app.readiness.of(ask).await?;
    Ok(answer::json(r#"{"status":"ready"}"#.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_probes_ask_mongodb_once_in_a_while() {
        let (readiness, asked) = (Readiness::default(), AtomicU32::new(0));
        let ask = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(away())
        };
        let since = Instant::now();
        for answer in join_all((0..100).map(|_| readiness.of(ask()))).await {
            assert_eq!(answer, Err(away()));
        }
        assert!(asked.load(Ordering::Relaxed) == 1 || since.elapsed() > REMEMBERED);
        readiness.0.lock().await.as_mut().expect("an answer").0 -= REMEMBERED;
        assert_eq!(readiness.of(std::future::ready(Ok(()))).await, Ok(()), "then it is asked again");
    }
}
