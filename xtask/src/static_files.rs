//! Serves a folder: the web chat is a static page, and the backend serves no files.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use warp::Filter as _;

/// Serves the folder on this port of 127.0.0.1 for as long as this process runs.
pub(crate) async fn serve(folder: &Path, port: u16) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    // While one works on the page, the browser is to ask each time.
    let files = warp::fs::dir(folder.to_owned()).with(warp::reply::with::header("cache-control", "no-cache"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(warp::service(files.clone()));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use parts::http::Request;
    use parts::{port, workspace};

    use super::*;

    #[tokio::test]
    async fn a_link_is_followed_and_what_lies_outside_is_not_reached_by_dots() {
        let scratch = workspace::scratch("static-files").unwrap();
        let [page, client] = ["page", "client"].map(|name| scratch.path().join(name));
        std::fs::create_dir_all(&page).unwrap();
        std::fs::create_dir_all(&client).unwrap();
        std::fs::write(client.join("index.js"), "export {};").unwrap();
        std::os::unix::fs::symlink("../client", page.join("tailrace")).unwrap();
        let port = port::free().unwrap();
        serve(&page, port).await.unwrap();
        let get = async |path: &str| {
            Request::get(path.to_owned()).send(&format!("http://127.0.0.1:{port}")).await.unwrap()
        };
        let answer = get("/tailrace/index.js").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "export {};".into()));
        assert_eq!(get("/%2e%2e/client/index.js").await.status, 404);
    }
}
