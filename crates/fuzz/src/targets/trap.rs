//! A target with each of the faults that the driver must notice.

use crate::{Dice, Shapes, Target};

/// Panics, takes memory without end, or dies in a thread, when the input says so.
pub(super) struct Trap;

impl Target for Trap {
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8> {
        (*dice.pick(&["harmless", "boom", "grow", "thread"])).into()
    }

    fn run(&mut self, input: &[u8]) -> Shapes {
        match input {
            b"boom" => panic!("the trap was sprung"),
            // Address space is enough: it need not be touched.
            b"grow" => drop(Vec::<u8>::with_capacity(8 << 30)),
            b"thread" => drop(std::thread::spawn(|| panic!("in a thread")).join()),
            _ => {}
        }
        Shapes::from([format!("{} bytes", input.len())])
    }
}
