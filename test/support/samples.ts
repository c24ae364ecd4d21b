// Reads the code blocks of a Markdown document and says which of them are samples that must run.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repo = fileURLToPath(new URL('../..', import.meta.url));

/** README.md and what is in docs/, as paths in the repository. */
export function documents(): string[] {
  const inDocs = readdirSync(join(repo, 'docs'), { recursive: true, encoding: 'utf8' });
  return ['README.md', ...inDocs.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]
    .filter((name) => !name.includes('node_modules') && existsSync(join(repo, name)))
    .toSorted();
}

export interface Block {
  readonly language: 'js' | 'sh' | 'ts';
  /** Line of the opening fence, from 1. */
  readonly line: number;
  readonly lines: readonly string[];
  /** False for `no-run` blocks and for shell blocks that don't begin with the vpci command. */
  readonly run: boolean;
}

export interface ShellStep {
  readonly command: string;
  readonly expected: readonly string[];
}

export function parseBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split(/\r?\n/);
  for (let at = 0; at < lines.length; at++) {
    const open = /^(\s*)(`{3,}|~{3,})\s*(\S*)\s*(.*)$/.exec(lines[at] ?? '');
    if (open === null) continue;
    const [, indent = '', fence = '', language = '', info = ''] = open;
    const body: string[] = [];
    const line = at + 1;
    for (at++; at < lines.length; at++) {
      const text = lines[at] ?? '';
      if (text.trim().startsWith(fence) && text.trim().replaceAll(fence.charAt(0), '') === '') break;
      body.push(text.startsWith(indent) ? text.slice(indent.length) : text.trimStart());
    }
    if (language !== 'js' && language !== 'sh' && language !== 'ts') continue;
    const session = language !== 'sh' || /^\$ (npx )?vpci\b/.test(body[0] ?? '');
    blocks.push({ language, line, lines: body, run: session && !info.split(/\s+/).includes('no-run') });
  }
  return blocks;
}

/** The texts of the `// -> text` comments, in order: the lines that the block prints. */
export function expectedOfJs(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const text = /\/\/ -> (.*)$/.exec(line)?.[1];
    return text === undefined ? [] : [text];
  });
}

/** `$ command` lines (a backslash continues one) and the output expected below each. */
export function shellSteps(lines: readonly string[]): ShellStep[] {
  const steps: { command: string; expected: string[] }[] = [];
  let continued = false;
  for (const line of lines) {
    const last = steps.at(-1);
    if (continued && last !== undefined) {
      last.command += `\n${line}`;
      continued = line.endsWith('\\');
    } else if (line.startsWith('$ ')) {
      steps.push({ command: line.slice(2), expected: [] });
      continued = line.endsWith('\\');
    } else {
      last?.expected.push(line);
    }
  }
  return steps;
}

/** Compares line by line; a line `...` in `expected` stands for any number of lines. Returns the problem. */
export function matchLines(actual: readonly string[], expected: readonly string[]): string | undefined {
  let at = 0;
  for (let index = 0; index < expected.length; index++) {
    const want = expected[index] ?? '';
    if (want === '...') {
      const rest = expected.slice(index + 1);
      if (rest.length === 0) return undefined;
      let problem: string | undefined;
      for (let from = at; from < actual.length; from++) {
        problem = matchLines(actual.slice(from), rest);
        if (problem === undefined) return undefined;
      }
      return actual.slice(at).includes(rest[0] ?? '')
        ? problem
        : `expected ${JSON.stringify(rest[0])} after "...", found the end`;
    }
    const found = actual[at];
    if (found !== want) {
      return `expected ${JSON.stringify(want)}, found ${found === undefined ? 'the end' : JSON.stringify(found)}`;
    }
    at++;
  }
  return at < actual.length ? `expected the end, found ${JSON.stringify(actual[at])}` : undefined;
}
