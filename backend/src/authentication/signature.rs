//! Checks of token signatures, by `ring`.

use ring::{
    hmac,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};
use shared::{
    jwks::Material,
    token::{Algorithm, SignatureCheck},
};

pub(super) fn is_valid(check: &SignatureCheck<'_>) -> bool {
    let (message, signature) = (check.message(), check.signature());
    match check.key().material() {
        Material::Hmac(secret) => {
            let algorithm = match check.algorithm() {
                Algorithm::HS256 => hmac::HMAC_SHA256,
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => return false,
            };
            hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
        }
        Material::Rsa { n, e } => {
            let parameters: &RsaParameters = match check.algorithm() {
                Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                _ => return false,
            };
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
        }
        Material::P256 { x, y } if check.algorithm() == Algorithm::ES256 => {
            let point = [&[4], x.as_slice(), y.as_slice()].concat(); // uncompressed (SEC 1, section 2.3.3)
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok()
        }
        Material::Ed25519 { x } if check.algorithm() == Algorithm::EdDSA => {
            UnparsedPublicKey::new(&signature::ED25519, x).verify(message, signature).is_ok()
        }
        Material::P256 { .. } | Material::Ed25519 { .. } => false,
    }
}
