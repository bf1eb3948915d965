//! Writes JPEG files of every sampling, scan order and process that the standard allows.
//!
//! Encoders in use write a few of them only. The entropy coding is as plain as it can be: every symbol
//! has a code of its own number, so files are large and the code is short.

/// How one component is sampled: samples per smallest unit of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampling {
    pub(crate) across: usize,
    pub(crate) down: usize,
}

/// One scan: which components it holds, and which part of their coefficients.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) components: Vec<usize>,
    /// First and last coefficient in zigzag order.
    pub(crate) band: (usize, usize),
    /// Bit positions, before and after this scan.
    pub(crate) bits: (u8, u8),
}

/// How the coefficients are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Baseline,
    Extended,
    Progressive,
}

/// The file to write.
#[derive(Debug, Clone)]
pub(crate) struct Jpeg {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) process: Process,
    pub(crate) samplings: Vec<Sampling>,
    pub(crate) scans: Vec<Scan>,
    /// MCUs between two restart markers, if any.
    pub(crate) restart: Option<usize>,
    /// Segments behind the start of the image, markers and lengths included.
    pub(crate) extra: Vec<u8>,
}

const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Quantisation of every coefficient.
const STEP: f64 = 2.0;

type Block = [i32; 64];

/// The coefficients of one component, in zigzag order.
struct Plane {
    /// Blocks in a row of the file, padding to whole MCUs included.
    stride: usize,
    /// Blocks that hold picture.
    across: usize,
    down: usize,
    blocks: Vec<Block>,
}

impl Jpeg {
    /// Writes the file; `sample` gives the value of a component at a point of the picture, both
    /// coordinates from 0 to 1.
    pub(crate) fn write(&self, sample: impl Fn(usize, f64, f64) -> f64) -> Vec<u8> {
        let most = |of: fn(&Sampling) -> usize| self.samplings.iter().map(of).max().unwrap();
        let (h_max, v_max) = (most(|s| s.across), most(|s| s.down));
        let mcus = (self.width.div_ceil(8 * h_max), self.height.div_ceil(8 * v_max));
        let planes: Vec<Plane> = self
            .samplings
            .iter()
            .enumerate()
            .map(|(component, sampling)| {
                let columns = (self.width * sampling.across).div_ceil(h_max);
                let rows = (self.height * sampling.down).div_ceil(v_max);
                let (stride, lines) = (mcus.0 * sampling.across, mcus.1 * sampling.down);
                let blocks = (0..stride * lines)
                    .map(|at| {
                        transform(|x, y| {
                            // What lies outside repeats the edge.
                            let x = (at % stride * 8 + x).min(columns - 1) as f64 + 0.5;
                            let y = (at / stride * 8 + y).min(rows - 1) as f64 + 0.5;
                            sample(component, x / columns as f64, y / rows as f64)
                                .round()
                                .clamp(0.0, 255.0)
                        })
                    })
                    .collect();
                Plane {
                    stride,
                    across: columns.div_ceil(8),
                    down: rows.div_ceil(8),
                    blocks,
                }
            })
            .collect();

        let mut out = vec![0xFF, 0xD8];
        out.extend(&self.extra);
        segment(&mut out, 0xDB, &[&[0][..], &[STEP as u8; 64]].concat());
        let frame = match self.process {
            Process::Baseline => 0xC0,
            Process::Extended => 0xC1,
            Process::Progressive => 0xC2,
        };
        let mut header = vec![8];
        header.extend((self.height as u16).to_be_bytes());
        header.extend((self.width as u16).to_be_bytes());
        header.push(self.samplings.len() as u8);
        for (component, sampling) in self.samplings.iter().enumerate() {
            header.extend([
                component as u8 + 1,
                (sampling.across << 4 | sampling.down) as u8,
                0,
            ]);
        }
        segment(&mut out, frame, &header);
        // Twelve symbols of four bits for DC, 256 of nine bits for AC.
        let mut dc = vec![0; 17];
        dc[4] = 12;
        dc.extend(0..12);
        segment(&mut out, 0xC4, &dc);
        let mut ac = vec![0; 17];
        ac[0] = 0x10;
        // 255 of nine bits and the last one of ten: no code may consist of ones alone, and the
        // count of a length is one byte.
        ac[9] = 255;
        ac[10] = 1;
        ac.extend(0..=255);
        segment(&mut out, 0xC4, &ac);
        if let Some(restart) = self.restart {
            segment(&mut out, 0xDD, &(restart as u16).to_be_bytes());
        }
        for scan in &self.scans {
            self.write_scan(&mut out, scan, &planes, mcus);
        }
        out.extend([0xFF, 0xD9]);
        out
    }

    fn write_scan(&self, out: &mut Vec<u8>, scan: &Scan, planes: &[Plane], mcus: (usize, usize)) {
        let mut header = vec![scan.components.len() as u8];
        for &component in &scan.components {
            header.extend([component as u8 + 1, 0]);
        }
        header.extend([
            scan.band.0 as u8,
            scan.band.1 as u8,
            scan.bits.0 << 4 | scan.bits.1,
        ]);
        segment(out, 0xDA, &header);

        let single = scan.components.len() == 1;
        let first = &planes[scan.components[0]];
        let (across, down) = if single { (first.across, first.down) } else { mcus };
        let mut coder = Coder::new(self.process, scan, planes.len());
        for mcu in 0..across * down {
            if let Some(restart) = self.restart
                && mcu > 0
                && mcu % restart == 0
            {
                coder.restart((mcu / restart - 1) % 8);
            }
            let (column, row) = (mcu % across, mcu / across);
            for &component in &scan.components {
                let (plane, sampling) = (&planes[component], self.samplings[component]);
                let (h, v) = if single {
                    (1, 1)
                } else {
                    (sampling.across, sampling.down)
                };
                for at in 0..h * v {
                    let (x, y) = (column * h + at % h, row * v + at / h);
                    coder.block(component, &plane.blocks[y * plane.stride + x]);
                }
            }
        }
        out.extend(coder.finish());
    }
}

fn segment(out: &mut Vec<u8>, marker: u8, content: &[u8]) {
    out.extend([0xFF, marker]);
    out.extend((content.len() as u16 + 2).to_be_bytes());
    out.extend(content);
}

/// The cosine transform of eight times eight samples, quantised.
fn transform(sample: impl Fn(usize, usize) -> f64) -> Block {
    let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
    let cosine = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
    let mut samples = [[0.0; 8]; 8];
    for (y, row) in samples.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = sample(x, y) - 128.0;
        }
    }
    std::array::from_fn(|at| {
        let (u, v) = (ZIGZAG[at] % 8, ZIGZAG[at] / 8);
        let mut sum = 0.0;
        for (y, row) in samples.iter().enumerate() {
            for (x, value) in row.iter().enumerate() {
                sum += value * cosine(x, u) * cosine(y, v);
            }
        }
        (sum * scale(u) * scale(v) / 4.0 / STEP).round() as i32
    })
}

/// The entropy coder of one scan.
struct Coder<'a> {
    process: Process,
    scan: &'a Scan,
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
    last_dc: Vec<i32>,
    /// Blocks that end here and are not written yet, and the correction bits behind them.
    ended: u32,
    corrections: Vec<bool>,
}

impl<'a> Coder<'a> {
    fn new(process: Process, scan: &'a Scan, components: usize) -> Self {
        Coder {
            process,
            scan,
            bytes: Vec::new(),
            pending: 0,
            count: 0,
            last_dc: vec![0; components],
            ended: 0,
            corrections: Vec::new(),
        }
    }

    fn put(&mut self, value: u32, bits: u32) {
        self.pending = self.pending << bits | u64::from(value & ((1 << bits) - 1));
        self.count += bits;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.pending >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xFF {
                self.bytes.push(0);
            }
        }
    }

    fn symbol(&mut self, symbol: usize) {
        match symbol {
            255 => self.put(510, 10),
            symbol => self.put(symbol as u32, 9),
        }
    }

    fn value(&mut self, value: i32, bits: u32) {
        let value = if value < 0 { value + (1 << bits) - 1 } else { value };
        self.put(value as u32, bits);
    }

    fn block(&mut self, component: usize, block: &Block) {
        let ((first, last), (before, after)) = (self.scan.band, self.scan.bits);
        if self.process != Process::Progressive {
            self.dc(component, block[0]);
            self.ac(block, 1, 63, 0);
        } else if first == 0 && before == 0 {
            self.dc(component, block[0] >> after);
        } else if first == 0 {
            self.put((block[0] >> after) as u32 & 1, 1);
        } else if before == 0 {
            self.ac(block, first, last, after);
        } else {
            self.refine(block, first, last, after);
        }
    }

    fn dc(&mut self, component: usize, value: i32) {
        let difference = value - self.last_dc[component];
        self.last_dc[component] = value;
        let bits = size(difference);
        self.put(bits, 4);
        self.value(difference, bits);
    }

    fn ac(&mut self, block: &Block, first: usize, last: usize, shift: u8) {
        let mut zeros = 0;
        for &coefficient in &block[first..=last] {
            let value = coefficient.signum() * (coefficient.abs() >> shift);
            if value == 0 {
                zeros += 1;
                continue;
            }
            self.end_blocks();
            while zeros > 15 {
                self.symbol(0xF0);
                zeros -= 16;
            }
            let bits = size(value);
            self.symbol(zeros << 4 | bits as usize);
            self.value(value, bits);
            zeros = 0;
        }
        if zeros > 0 {
            self.ended += 1;
            if self.process != Process::Progressive || self.ended == 0x7FFF {
                self.end_blocks();
            }
        }
    }

    fn refine(&mut self, block: &Block, first: usize, last: usize, shift: u8) {
        let magnitude = |at: usize| block[at].abs() >> shift;
        let last_new = (first..=last).rev().find(|&at| magnitude(at) == 1).unwrap_or(0);
        let mut zeros = 0;
        let mut corrections = Vec::new();
        for (at, &coefficient) in block.iter().enumerate().take(last + 1).skip(first) {
            let value = magnitude(at);
            if value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 && at <= last_new {
                self.end_blocks();
                self.symbol(0xF0);
                zeros -= 16;
                self.bits(&std::mem::take(&mut corrections));
            }
            if value > 1 {
                corrections.push(value & 1 == 1);
                continue;
            }
            self.end_blocks();
            self.symbol(zeros << 4 | 1);
            self.put(u32::from(coefficient > 0), 1);
            self.bits(&std::mem::take(&mut corrections));
            zeros = 0;
        }
        if zeros > 0 || !corrections.is_empty() {
            self.ended += 1;
            self.corrections.extend(corrections);
            if self.ended == 0x7FFF || self.corrections.len() > 900 {
                self.end_blocks();
            }
        }
    }

    /// Writes how many blocks in a row have ended.
    fn end_blocks(&mut self) {
        if self.ended > 0 {
            let bits = self.ended.ilog2();
            self.symbol((bits << 4) as usize);
            let count = self.ended;
            self.put(count, bits);
            self.ended = 0;
        }
        let corrections = std::mem::take(&mut self.corrections);
        self.bits(&corrections);
    }

    fn bits(&mut self, bits: &[bool]) {
        for &bit in bits {
            self.put(u32::from(bit), 1);
        }
    }

    fn pad(&mut self) {
        self.end_blocks();
        let missing = (8 - self.count % 8) % 8;
        self.put((1 << missing) - 1, missing);
    }

    fn restart(&mut self, number: usize) {
        self.pad();
        self.bytes.extend([0xFF, 0xD0 + number as u8]);
        self.last_dc.fill(0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.pad();
        self.bytes
    }
}

/// How many bits a value takes.
fn size(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}
