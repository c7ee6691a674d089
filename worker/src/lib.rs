//! The edge worker: judges requests close to the user, and passes on to the backend what it lets in.
//!
//! A request's way reads like the files: `settings` of the deployment → `caller` (credentials, by `webcrypto`,
//! `key_server`, and `users`) → `knowledge` (mounts and definitions, from the backend) → `gate` (the judgement, by the rules of
//! `shared`) → `upstream` (which backend, signed, with fail-over) → the backend's answer, untouched.

mod answer;
mod caller;
mod gate;
mod key_server;
mod knowledge;
mod runtime;
mod service_token;
mod settings;
mod turn;
mod upstream;
mod users;
mod webcrypto;

use worker::{Context, Env, console_error, event};

/// What the runtime calls for each request.
#[event(fetch)]
async fn fetch(request: web_sys::Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    match settings::of(&env) {
        Ok(settings) => gate::handle(request, &settings, &env, &context).await,
        Err(fault) => {
            console_error!("{fault}");
            answer::refusal(&answer::misconfigured(), &[])
        }
    }
}
