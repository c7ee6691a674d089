//! What a node tells operators: the figures at its admin listener.

use http::StatusCode;
use parts::backend::Options;
use parts::port;

use crate::{Request, soon};

/// The admin listener of a node.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `http://127.0.0.1:<port>`
    pub url: String,
}

impl Admin {
    /// Gives the node that is started with these options an admin listener.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn of(options: Options) -> (Options, Self) {
        let port = port::free().expect("a free port");
        let admin = Self { url: format!("http://127.0.0.1:{port}") };
        (options.set("TAILRACE_ADMIN__LISTEN", format!("127.0.0.1:{port}")), admin)
    }

    /// All figures, as text.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn figures(&self) -> String {
        let answer = soon("the figures", Request::get("/_metrics").send(&self.url)).await.expect("figures");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.text()
    }

    /// One figure: `tailrace_<name>`, with its labels as they are shown.
    ///
    /// # Panics
    /// When there is none.
    pub async fn figure(&self, name: &str) -> f64 {
        let figures = self.figures().await;
        let value = figures.lines().find_map(|line| {
            let (name_and_labels, value) = line.strip_prefix("tailrace_")?.rsplit_once(' ')?;
            (name_and_labels == name).then(|| value.parse::<f64>().expect("a number"))
        });
        value.unwrap_or_else(|| panic!("no tailrace_{name} in\n{figures}"))
    }

    /// Waits until a figure is what it should be.
    pub async fn shows(&self, name: &str, value: f64) {
        crate::until(&format!("{name} {value}"), async || (self.figure(name).await - value).abs() < 0.5)
            .await;
    }
}
