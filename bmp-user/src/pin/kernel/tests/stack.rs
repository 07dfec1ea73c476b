//! The stack of each program, as the verifier of Linux 6.1 counts it: read from the object file.

use std::collections::HashMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind};

use super::super::object::{OBJECT, program_names};

/// Bytes of stack that a program has with all functions that it calls: `MAX_BPF_STACK`
/// (linux/filter.h).
const LIMIT: u64 = 512;

/// Bytes of the limit that stay free: another compiler may need some more.
const RESERVE: u64 = 32;

/// Each function occupies a multiple of these bytes (`check_max_stack_depth` of
/// kernel/bpf/verifier.c). Since Linux 6.8 it is 16 for compiled programs.
const UNIT: u64 = 32;

/// Length of an instruction.
const INSTRUCTION: usize = 8;

/// The frame pointer, `BPF_REG_10`.
const FRAME: u8 = 10;

/// BpfInstruction classes, which the three lowest bits of an opcode tell (linux/bpf.h).
const LOAD: u8 = 1;
const STORE_NUMBER: u8 = 2;
const STORE: u8 = 3;

/// Whole opcodes: `rX = rY`, `rX += NUMBER`, `call`, and the only instruction of double length.
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
const CALL: u8 = 0x85;
const LOAD_NUMBER: u8 = 0x18;

/// `BPF_PSEUDO_CALL`: the source register of a call of the program's own function.
const OWN_FUNCTION: u8 = 1;

/// Where a function begins: its section, and the offset in it.
type Start = (SectionIndex, u64);

/// A function of the object file.
#[derive(Debug)]
struct BpfFunction {
    name: String,
    /// Bytes of stack below the frame pointer.
    stack: u64,
    calls: Vec<Start>,
}

/// An instruction (struct bpf_insn of linux/bpf.h).
struct BpfInstruction {
    opcode: u8,
    destination: u8,
    source: u8,
    offset: i16,
    number: i32,
}

impl BpfInstruction {
    fn parse([opcode, registers, offset_0, offset_1, number @ ..]: [u8; INSTRUCTION]) -> Self {
        let (low, high) = (registers & 0x0f, registers >> 4);
        let (destination, source) = if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
        let offset = i16::from_ne_bytes([offset_0, offset_1]);
        Self { opcode, destination, source, offset, number: i32::from_ne_bytes(number) }
    }

    /// Returns how far below the frame pointer the instruction reads or writes.
    fn depth(&self) -> u64 {
        let base = match self.opcode & 0x07 {
            LOAD => self.source,
            STORE_NUMBER | STORE => self.destination,
            _ => return 0,
        };
        if base == FRAME && self.offset < 0 { u64::from(self.offset.unsigned_abs()) } else { 0 }
    }
}

/// Reads the functions of the object file.
fn functions() -> HashMap<Start, BpfFunction> {
    let file = object::File::parse(OBJECT).expect("an object file");
    let mut functions = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let (index, begin) = (symbol.section_index().expect("a function is in a section"), symbol.address());
        let section = file.section_by_index(index).unwrap();
        let code = section.data().unwrap();
        let relocations: HashMap<_, _> = section.relocations().collect();
        let name = symbol.name().unwrap().to_owned();
        let (mut stack, mut calls, mut address) = (0, Vec::new(), None);
        let mut at = begin;
        while at < begin + symbol.size() {
            let instruction = BpfInstruction::parse(*code[at as usize..].first_chunk().unwrap());
            stack = stack.max(instruction.depth());
            if let Some(register) = address.take() {
                // The compiler makes an address in the stack of two instructions.
                assert!(
                    (instruction.opcode, instruction.destination) == (ADD_NUMBER, register),
                    "{name} uses the frame pointer in a way that this test does not read"
                );
                stack = stack.max(u64::from(instruction.number.unsigned_abs()));
            }
            match instruction {
                BpfInstruction { opcode: MOVE, source: FRAME, destination, .. } => address = Some(destination),
                BpfInstruction { opcode: CALL, source: OWN_FUNCTION, number, .. } => {
                    let behind = |from: u64| from.wrapping_add_signed((i64::from(number) + 1) * INSTRUCTION as i64);
                    calls.push(match relocations.get(&at).map(|relocation| relocation.target()) {
                        None => (index, behind(at)),
                        Some(RelocationTarget::Symbol(called)) => {
                            let called = file.symbol_by_index(called).unwrap();
                            (
                                called.section_index().expect("a called function is in the file"),
                                behind(called.address()),
                            )
                        }
                        Some(other) => panic!("{name} calls {other:?}"),
                    });
                }
                _ => {}
            }
            at += INSTRUCTION as u64 * if instruction.opcode == LOAD_NUMBER { 2 } else { 1 };
        }
        functions.insert((index, begin), BpfFunction { name, stack, calls });
    }
    functions
}

/// Returns the bytes of stack of the deepest chain of calls, and a line for each of its functions.
fn deepest(functions: &HashMap<Start, BpfFunction>, start: Start) -> (u64, Vec<String>) {
    let function = &functions[&start];
    let called = function.calls.iter().map(|&called| deepest(functions, called));
    let (below, mut chain) = called.max_by_key(|(stack, _)| *stack).unwrap_or_default();
    chain.insert(0, format!("{}: {}", function.name, function.stack));
    (below + function.stack.max(1).next_multiple_of(UNIT), chain)
}

#[test]
fn no_chain_of_calls_comes_near_the_limit_of_the_stack() {
    let functions = functions();
    for program in program_names() {
        let start = functions.iter().find(|(_, function)| function.name == program).expect(program).0;
        let (stack, chain) = deepest(&functions, *start);
        assert!(chain.len() > 1, "{program} calls no function: {chain:#?}");
        assert!(
            stack + RESERVE <= LIMIT,
            "{program} needs {stack} of {LIMIT} bytes of stack, {RESERVE} of which must stay free: {chain:#?}"
        );
    }
}
