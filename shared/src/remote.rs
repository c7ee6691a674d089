//! Addresses of other machines that secrets and verdicts may be fetched from or sent to.

use http::Uri;

/// An address that is safe to talk to: https, or http on the loopback interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote(String);

impl Remote {
    /// The address, if it is absolute, https or on the loopback interface, and carries no credentials.
    ///
    /// The error says what was expected; the caller names the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected =
            |found: &str| format!("{found}, expected an https address (http only on the loopback interface)");
        let uri: Uri = text.trim().parse().map_err(|_| expected("not an address"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(expected("no absolute address"));
        };
        if authority.as_str().contains('@') {
            return Err(expected("an address with credentials in it"));
        }
        match scheme {
            "https" => {}
            "http" if is_loopback(authority.host()) => {}
            "http" => return Err(expected("http to another machine")),
            _ => return Err(expected("a scheme that is neither")),
        }
        Ok(Self(text.trim().to_owned()))
    }

    /// The address, if besides the rules of [`Remote::parse`] it has neither path nor query: a base that paths are added to.
    pub fn base(text: &str) -> Result<Self, String> {
        let remote = Self::parse(text)?;
        let uri: Uri = remote.0.parse().map_err(|_| "not an address".to_owned())?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err("an address with a path or a query, expected scheme, host, and port alone".to_owned());
        }
        Ok(Self(remote.0.trim_end_matches('/').to_owned()))
    }

    /// What a request to it has as its `Host`: without a port that is the scheme's own.
    pub fn host(&self) -> String {
        let Ok(uri) = self.0.parse::<Uri>() else { return String::new() };
        let own_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        uri.port_u16()
            .filter(|port| *port != own_port)
            .map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// Whether it is on the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.0.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
    }

    /// The address as text; that of [`Remote::base`] ends without a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn only_https_and_loopback_are_trusted() {
        for good in
            ["https://a.example", "http://127.0.0.1:8080", "http://localhost:1/x", "http://[::1]:8080"]
        {
            assert!(Remote::parse(good).is_ok(), "{good}");
        }
        assert_eq!(
            Remote::parse("http://a.example").unwrap_err(),
            "http to another machine, expected an https address (http only on the loopback interface)"
        );
        for bad in
            ["", "a.example", "/x", "ftp://a.example", "https://u:p@a.example", "http://127.0.0.1.example"]
        {
            assert!(Remote::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_host_is_what_a_request_to_it_says() {
        for (address, host) in [
            ("https://Node.example:443", "node.example"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:80", "[::1]"),
            ("https://node.example:80", "node.example:80"),
        ] {
            assert_eq!(Remote::parse(address).map(|remote| remote.host()).as_deref(), Ok(host));
        }
    }

    #[test]
    fn a_base_has_neither_path_nor_query() {
        assert_eq!(Remote::base("https://a.example/").map(|base| base.0), Ok("https://a.example".to_owned()));
        assert!(Remote::base("https://a.example/x").is_err());
        assert!(Remote::base("https://a.example/?x=1").is_err());
    }
}
