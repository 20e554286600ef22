//! A lab in the background, and how it is spoken to: a line of JSON each way over a socket that only its owner may open.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{HostView, Lab, LabError, LinkView, Priority, Punctuality, Shape, berth};

const SOCKET: &str = "control.sock";
/// Longest order, and longest answer: every host and link of the largest plan are a quarter of it.
const LINE_MAX: u64 = 1 << 20;
/// How long either side waits for the other. Only the end of a lab takes more than a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a lab in the background can be told. Places are named as in the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// To tell how it is.
    Status,
    /// To cut the way from one place to another.
    Cut {
        /// Where from.
        a: String,
        /// Where to.
        b: String,
        /// Not the way back.
        one_way: bool,
    },
    /// To make a place a black hole.
    BlackHole {
        /// Which.
        place: String,
    },
    /// To lift all faults; those of one place; or the cuts between two.
    Heal {
        /// None, one or two.
        places: Vec<String>,
    },
    /// To change the shape of a way.
    Shape {
        /// Where from.
        a: String,
        /// Where to.
        b: String,
        /// What changes; the rest stays.
        set: BTreeMap<String, Value>,
        /// Not the way back.
        one_way: bool,
    },
    /// To put all shapes back to the plan's.
    Unshape,
    /// To go down.
    Down,
}

/// How a lab is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub id: String,
    /// How its emulator is scheduled.
    pub priority: Priority,
    /// Its hosts.
    pub hosts: Vec<HostView>,
    /// What is broken on purpose.
    pub faults: Vec<String>,
    /// Every direction, with what it counted.
    pub links: Vec<LinkView>,
    /// Packets to nobody here.
    pub strays: u64,
    /// How late packets were.
    pub punctuality: Punctuality,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Box<Status>),
    Refused(String),
}

impl Lab {
    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.id().to_owned(),
            priority: self.priority(),
            hosts: self.hosts(),
            faults: self.faults(),
            links: self.links(),
            strays: self.strays(),
            punctuality: self.punctuality(),
        }
    }

    /// Does what an order says, but for going down.
    fn obey(&self, order: &Order) -> Result<(), LabError> {
        match order {
            Order::Status | Order::Down => Ok(()),
            Order::Cut { a, b, one_way: true } => self.cut_one_way(a, b),
            Order::Cut { a, b, one_way: false } => self.cut(a, b),
            Order::BlackHole { place } => self.black_hole(place),
            Order::Heal { places } => match places.as_slice() {
                [] => {
                    self.heal_all();
                    Ok(())
                }
                [place] => self.heal_black_hole(place),
                [a, b] => self.heal(a, b),
                _ => Err(LabError::Control("heal takes no place, one or two".to_owned())),
            },
            Order::Shape { a, b, set, one_way } => {
                let forth = changed(&self.shape_of(a, b)?, set)?;
                let back = changed(&self.shape_of(b, a)?, set)?;
                self.shape_one_way(a, b, forth)?;
                if *one_way { Ok(()) } else { self.shape_one_way(b, a, back) }
            }
            Order::Unshape => {
                self.unshape();
                Ok(())
            }
        }
    }
}

/// Listens for orders until the one that ends the lab. `ready` runs as soon as it listens.
///
/// # Errors
/// When it cannot listen, or `ready` fails.
pub fn serve(lab: Lab, ready: impl FnOnce(&Lab) -> io::Result<()>) -> Result<(), LabError> {
    let listening = LabError::io("the control socket");
    let path = lab.directory().join(SOCKET);
    let listener = UnixListener::bind(path)
        .and_then(|listener| ready(&lab).map(|()| listener))
        .map_err(listening)?;
    for stream in listener.incoming() {
        // Who hangs up or stalls loses its own answer.
        let Ok(stream) = stream else { continue };
        let Ok(order) = read_line::<Order>(&stream) else { continue };
        let answer = match lab.obey(&order) {
            Ok(()) => Answer::Done(Box::new(lab.status())),
            Err(error) => Answer::Refused(told(&error)),
        };
        if order == Order::Down {
            drop(lab);
            let _answered = write_line(&stream, &answer);
            return Ok(());
        }
        let _answered = write_line(&stream, &answer);
    }
    Ok(())
}

/// Tells a lab in the background what to do. Returns how it is after that, or was before it went down.
///
/// # Errors
/// When there is no such lab, it is one that a program made for itself, or it refuses.
pub fn ask(id: &str, order: &Order) -> Result<Status, LabError> {
    let answer = UnixStream::connect(socket(id))
        .and_then(|stream| write_line(&stream, order).and_then(|()| read_line(&stream)));
    match answer.map_err(LabError::io(format!("lab {id} does not answer")))? {
        Answer::Done(status) => Ok(*status),
        Answer::Refused(why) => Err(LabError::Control(why)),
    }
}

/// Whether a lab takes orders: one that a program made for itself does not.
#[must_use]
pub fn listens(id: &str) -> bool {
    socket(id).exists()
}

fn socket(id: &str) -> PathBuf {
    berth::directory(id).join(SOCKET)
}

/// The shape with some of its fields replaced.
fn changed(shape: &Shape, set: &BTreeMap<String, Value>) -> Result<Shape, LabError> {
    let unread = |error: serde_json::Error| LabError::Control(format!("the shape: {error}"));
    let mut value = serde_json::to_value(shape).map_err(unread)?;
    if let Value::Object(fields) = &mut value {
        fields.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    serde_json::from_value(value).map_err(unread)
}

/// An error with what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(cause) = behind {
        text = format!("{text}: {cause}");
        behind = cause.source();
    }
    text
}

fn read_line<T: for<'a> Deserialize<'a>>(stream: &UnixStream) -> io::Result<T> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn write_line(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shape_keeps_what_is_not_changed() {
        let shape = Shape { loss: 0.5, ..Shape::one_way_ms(40.0) };
        let set = |text: Value| serde_json::from_value(text).unwrap();
        let burst = set(json!({ "loss": 0, "burst": { "start": 0.01, "end": 0.2 } }));
        let got = changed(&shape, &burst).unwrap();
        assert_eq!((got.delay, got.loss), (shape.delay, 0.0));
        assert_eq!(got.burst.unwrap().loss, 1.0);
        let none = changed(&got, &set(json!({ "burst": null }))).unwrap();
        assert_eq!(none.burst, None);
        let wrong = changed(&shape, &set(json!({ "los": 1 }))).unwrap_err().to_string();
        assert!(wrong.starts_with("the shape: unknown field `los`"), "{wrong}");
    }
}
