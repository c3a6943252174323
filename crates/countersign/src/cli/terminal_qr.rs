//! A QR code in the terminal: two modules a character, one above the other.

use super::screen::Screen;
use fast_qr::{ECL, QRBuilder};

/// Light modules around the code: ISO/IEC 18004 asks for four, and phones are strict on dark screens.
const QUIET_ZONE: usize = 4;
/// Black on white, whatever the terminal's palette makes of "black" and "white".
const DARK_ON_LIGHT: &str = "\u{1b}[38;5;16m\u{1b}[48;5;231m";
const RESET: &str = "\u{1b}[0m";

/// Returns the code as lines, or a word on what to do instead if it does not fit.
///
/// With colours it is dark on light, explicitly. Without, light modules are drawn as blocks, which is right on the dark
/// backgrounds that terminals mostly have.
pub(super) fn render(screen: Screen, content: &str) -> String {
    let Some(modules) = Modules::of(content) else {
        return "(too long for a QR code: type the secret instead)\n".to_owned();
    };
    let width = modules.side();
    if screen.width.is_some_and(|columns| usize::from(columns) < width) {
        return format!("(make the window {width} columns wide to see the QR code, or type the secret)\n");
    }
    (0..width).step_by(2).map(|row| line(&modules, row, screen.colours)).collect()
}

fn line(modules: &Modules, row: usize, colours: bool) -> String {
    let is_ink = |row, column| modules.is_dark(row, column) == colours;
    let blocks: String = (0..modules.side())
        .map(|column| match (is_ink(row, column), is_ink(row + 1, column)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        })
        .collect();
    if colours { format!("{DARK_ON_LIGHT}{blocks}{RESET}\n") } else { format!("{blocks}\n") }
}

/// The modules of a code with its quiet zone.
struct Modules {
    size: usize,
    dark: Vec<bool>,
}

impl Modules {
    /// Encodes text. The lowest correction is enough for a screen, which has no scratches, and keeps the code small.
    fn of(content: &str) -> Option<Self> {
        let code = QRBuilder::new(content).ecl(ECL::L).build().ok()?;
        let dark = code.data[..code.size * code.size].iter().map(|module| module.value()).collect();
        Some(Self { size: code.size, dark })
    }

    fn side(&self) -> usize {
        self.size + 2 * QUIET_ZONE
    }

    /// Tells whether a module is dark. The quiet zone, and what is beyond the last row, is light.
    fn is_dark(&self, row: usize, column: usize) -> bool {
        let (Some(row), Some(column)) = (row.checked_sub(QUIET_ZONE), column.checked_sub(QUIET_ZONE)) else {
            return false;
        };
        row < self.size && column < self.size && self.dark[row * self.size + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "otpauth://totp/Acme:ada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Acme\
                       &algorithm=SHA1&digits=6&period=30";
    const PLAIN: Screen = Screen { colours: false, width: None };

    #[test]
    fn a_key_uri_fits_into_80_columns_with_its_quiet_zone() {
        let text = render(PLAIN, URI);
        let side = Modules::of(URI).expect("code").side();

        assert!(side <= 80, "{side}");
        assert_eq!(text.lines().count(), side.div_ceil(2));
        assert!(text.lines().all(|line| line.chars().count() == side));
    }

    #[test]
    fn the_quiet_zone_is_four_light_modules_on_every_side() {
        let modules = Modules::of(URI).expect("code");
        let side = modules.side();
        let is_rim = |at: usize| at < QUIET_ZONE || at >= side - QUIET_ZONE;

        for row in 0..side {
            for column in 0..side {
                assert!(!(is_rim(row) || is_rim(column)) || !modules.is_dark(row, column), "{row} {column}");
            }
        }
        assert!(modules.is_dark(QUIET_ZONE, QUIET_ZONE));
    }

    #[test]
    fn with_colours_it_is_dark_on_light_and_each_line_resets_them() {
        let text = render(Screen { colours: true, width: Some(80) }, URI);

        assert!(text.lines().all(|line| line.starts_with(DARK_ON_LIGHT) && line.ends_with(RESET)));
    }

    #[test]
    fn a_window_too_narrow_is_told_how_wide_to_be() {
        let text = render(Screen { colours: false, width: Some(40) }, URI);

        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("columns wide"));
    }
}
