//! Reads an offer from standard input and prints the answer that the golden tests check, for a look at what a real
//! client makes of it. An argument names the video codec to prefer.

#[path = "../tests/golden/answerer.rs"]
mod answerer;

use std::{env, error::Error, io};

fn main() -> Result<(), Box<dyn Error>> {
    let offer = io::read_to_string(io::stdin())?;
    let preferred = env::args().nth(1);
    print!("{}", answerer::answer(&outlast_sdp::parse_offer(&offer)?, preferred.as_deref()));
    Ok(())
}
