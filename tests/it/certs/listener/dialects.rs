//! Clients that speak something else, or nothing, or too slowly.
use super::shown::s_client;
use super::{Case, Rig};
use crate::harness::peers::{dcmtk, path};
use crate::harness::tools;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub(super) fn all() -> Vec<Case> {
    [plain_on_tls(), noise_on_tls(), tls_on_plain()]
        .into_iter()
        .flatten()
        .collect()
}

fn case(
    (listener, fault, tool, reason): (&'static str, &str, &'static str, &'static str),
    act: fn(&Rig) -> Result<(), String>,
) -> Case {
    Case {
        listener,
        version: "",
        key: "",
        fault: fault.to_owned(),
        tool,
        reason,
        act: Box::new(act),
    }
}

/// Bytes said to a port, and what is heard until it is closed.
fn say(port: u16, said: &[u8], each: Option<Duration>) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .map_err(|error| error.to_string())?;
    match each {
        None => drop(stream.write_all(said)),
        Some(pause) => {
            for byte in said {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(pause);
            }
        }
    }
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Err("the connection was kept open".to_owned())
        }
        _ => Ok(heard),
    }
}

/// The first bytes of a TLS 1.2 ClientHello, enough to be one.
const HELLO: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03";

fn plain_on_tls() -> Vec<Case> {
    vec![
        case(("ecdsa", "plain DICOM", "dcmtk", "plain_dicom"), |rig| {
            let ran = dcmtk("echoscu", rig.port("ecdsa"), "ECHOSCU", &["-ta", "5"], &[]);
            let told = ran.code != Some(0) && format!("{}{}", ran.out, ran.err).contains("aborted");
            if told {
                Ok(())
            } else {
                Err(format!("no A-ABORT: {ran:?}"))
            }
        }),
        case(("open", "plain DICOM", "pynetdicom", "plain_dicom"), |rig| {
            let port = rig.port("open").to_string();
            let answer = tools::python_json("toolkit.py", &["echo", &port, "WAYSTATION", "ECHOSCU"]);
            if answer["status"] == 0 {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
        case(("rsa", "A-RELEASE-RQ", "bytes", "plain_dicom"), |rig| {
            let heard = say(rig.port("rsa"), &[5, 0, 0, 0, 0, 4, 0, 0, 0, 0], None)?;
            let abort = [7, 0, 0, 0, 0, 4, 0, 0, 2, 0];
            if heard == abort {
                Ok(())
            } else {
                Err(format!("no A-ABORT: {heard:?}"))
            }
        }),
        case(("open", "HTTP", "curl", "plain_http"), |rig| {
            let url = format!("http://127.0.0.1:{}/", rig.port("open"));
            let ran = tools::tool("curl", &["-s", "-m", "5", &url]);
            if ran.code == Some(0) {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
    ]
}

fn noise_on_tls() -> Vec<Case> {
    vec![
        case(("open", "SSH", "bytes", "plain_ssh"), |rig| {
            say(rig.port("open"), b"SSH-2.0-OpenSSH_9.2p1\r\n", None).map(drop)
        }),
        case(("open", "SSL 2 hello", "bytes", "tls_version"), |rig| {
            let hello = [&b"\x80\x2e\x01\x00\x02"[..], &[0; 41]].concat();
            let heard = say(rig.port("open"), &hello, None)?;
            if heard == [0x15, 3, 1, 0, 2, 2, 70] {
                Ok(())
            } else {
                Err(format!("no alert: {heard:?}"))
            }
        }),
        case(("open", "noise", "bytes", "not_tls"), |rig| {
            say(rig.port("open"), &[0xa5; 3000], None).map(drop)
        }),
        case(("open", "nothing", "bytes", "timeout"), |rig| {
            say(rig.port("open"), b"", None).map(drop)
        }),
        case(("open", "half a hello", "bytes", "timeout"), |rig| {
            say(rig.port("open"), HELLO, None).map(drop)
        }),
        case(("open", "a byte each 0.3 s", "bytes", "timeout"), |rig| {
            say(rig.port("open"), &HELLO.repeat(3), Some(Duration::from_millis(300))).map(drop)
        }),
        case(("open", "closed after hello", "bytes", "closed"), |rig| {
            let mut stream = TcpStream::connect(("127.0.0.1", rig.port("open"))).map_err(|error| error.to_string())?;
            stream.write_all(HELLO).map_err(|error| error.to_string())
        }),
    ]
}

fn tls_on_plain() -> Vec<Case> {
    vec![
        case(("dicom", "TLS", "openssl", "tls_on_plain"), |rig| {
            s_client(rig, "dicom", &["-tls1_3"], None)
        }),
        case(("dicom", "TLS", "dcmtk", "tls_on_plain"), |rig| {
            let ran = dcmtk(
                "echoscu",
                rig.port("dicom"),
                "ECHOSCU",
                &["+tla", "-ic", "-ta", "5"],
                &[],
            );
            if ran.code == Some(0) {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
        case(("dicom", "TLS", "pynetdicom", "tls_on_plain"), |rig| {
            let (port, trust) = (rig.port("dicom").to_string(), path(&rig.site.ours.certificate));
            let answer = tools::python_json("toolkit.py", &["echo_tls", &port, "WAYSTATION", "ECHOSCU", &trust]);
            if answer["status"] == 0 {
                Err("it was served".to_owned())
            } else {
                Ok(())
            }
        }),
    ]
}
