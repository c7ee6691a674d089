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
