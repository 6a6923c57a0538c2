//! A real guest behind a daemon with coalescing off, and behind one with it on, in turn.
//!
//! The guest has a processor of its own; the daemon and the program that receives share another
//! one, as far as there are so few.

mod load;

use load::Load;
use tests::guest::{Assets, Error, Machine, Result, Setup, Testbed, daemon, namespace, packages};

use crate::report::Report;

/// Pairs of measurements of which a row gives the medians.
const PAIRS: usize = 5;
/// Options of the daemon on either side.
const SIDES: [&[&str]; 2] = [&["--coalesce", "off"], &[]];

/// Prepares what needs the network or the compiler, then runs this program again in namespaces of
/// its own.
pub(crate) fn enter() -> Result<()> {
    packages::check()?;
    let target = daemon::target_folder();
    Assets::new(target.join("guest")).prepare(Machine::UserMode)?;
    let variables = [(daemon::DAEMON, daemon::build(&target)?)];
    let status = namespace::run_inside(&variables)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Unexpected(
            "the guest's rows were not measured".into(),
        ))
    }
}

/// Measures every load on both sides, and reports the medians. Runs in private namespaces.
///
/// Each measurement of a side has a new daemon and a new guest; the sides swap places from pair to
/// pair, so that neither comes always first.
pub(crate) fn run() -> Result<Report> {
    namespace::set_up()?;
    let assets = Assets::new(daemon::target_folder().join("guest"));
    // For each load the figures of each side.
    let mut figures = [const { [const { Vec::new() }; SIDES.len()] }; Load::ALL.len()];
    for pair in 0..PAIRS {
        for turn in 0..SIDES.len() {
            let side = (pair + turn) % SIDES.len();
            let measured = one_side(&assets, SIDES[side])?;
            for (row, figure) in figures.iter_mut().zip(measured) {
                row[side].push(figure);
            }
        }
    }
    let mut report = Report::default();
    for (load, [off, on]) in Load::ALL.iter().zip(&mut figures) {
        let (what, unit) = load.name();
        report.add(what, unit, median(off), median(on));
    }
    Ok(report)
}

/// Every load through a new daemon and a new guest.
fn one_side(assets: &Assets, options: &'static [&'static str]) -> Result<Vec<f64>> {
    let setup = Setup {
        machine: Machine::UserMode,
        options,
    };
    let mut bed = Testbed::open(assets, setup)?;
    let measured = Load::ALL
        .iter()
        .map(|load| load.measure(&mut bed.guest))
        .collect::<Result<_>>()
        .map_err(|error| bed.explain(&error))?;
    bed.close()?;
    Ok(measured)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
