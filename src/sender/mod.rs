pub mod pem;
pub mod tls;
