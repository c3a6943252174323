//! QR codes of key URIs, as SVG and PNG.

use crate::error::{Error, Result};
use data_encoding::BASE64;
use fast_qr::{ECL, QRBuilder, QRCode};
use std::fmt::Write;

/// Modules of quiet zone around the code (ISO/IEC 18004 §9.1 asks for four).
const QUIET: usize = 4;
/// Pixels of a module in the PNG.
const SCALE: usize = 6;

/// A QR code.
pub struct QrCode(QRCode);

impl QrCode {
    /// Makes the code of a text.
    pub fn new(text: &str) -> Result<Self> {
        let code = QRBuilder::new(text).ecl(ECL::M).build();
        code.map(Self).map_err(|error| Error::Internal(format!("draw QR code: {error:?}")))
    }

    /// Returns the modules with their quiet zone, row by row; `true` is dark.
    pub fn modules(&self) -> Vec<Vec<bool>> {
        let size = self.0.size;
        let is_dark = |x: usize, y: usize| {
            let (x, y) = (x.wrapping_sub(QUIET), y.wrapping_sub(QUIET));
            x < size && y < size && self.0[y][x].value()
        };
        (0..size + 2 * QUIET).map(|y| (0..size + 2 * QUIET).map(|x| is_dark(x, y)).collect()).collect()
    }

    /// Draws the code as SVG.
    pub fn svg(&self) -> String {
        let modules = self.modules();
        let side = modules.len();
        let mut path = String::new();
        for (y, row) in modules.iter().enumerate() {
            for (x, _) in row.iter().enumerate().filter(|(_, dark)| **dark) {
                write!(path, "M{x} {y}h1v1h-1z").expect("writing to a string does not fail");
            }
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path d="{path}"/></svg>"##
        )
    }

    /// Draws the code as a PNG of one bit a pixel.
    pub fn png(&self) -> Result<Vec<u8>> {
        let modules = self.modules();
        let side = modules.len() * SCALE;
        let mut pixels = Vec::new();
        for row in &modules {
            let line = packed(row.iter().flat_map(|dark| std::iter::repeat_n(!dark, SCALE)));
            (0..SCALE).for_each(|_| pixels.extend_from_slice(&line));
        }
        let mut image = Vec::new();
        let side = u32::try_from(side).map_err(|_| Error::Internal("draw QR code: too large".into()))?;
        let mut encoder = png::Encoder::new(&mut image, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let failed = |error: png::EncodingError| Error::Internal(format!("draw QR code: {error}"));
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(image)
    }

    /// Returns the PNG as a data URI.
    pub fn data_uri(&self) -> Result<String> {
        Ok(format!("data:image/png;base64,{}", BASE64.encode(&self.png()?)))
    }
}

/// Packs a line of pixels, eight a byte, the first in the highest bit.
fn packed(pixels: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, light) in pixels.enumerate() {
        if place % 8 == 0 {
            bytes.push(0);
        }
        if let (true, Some(byte)) = (light, bytes.last_mut()) {
            *byte |= 0x80 >> (place % 8);
        }
    }
    bytes
}
