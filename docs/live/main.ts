// The page: the story of `npm start`, played by x86 code in this browser, and shown as it happens.
import { V86 } from 'v86';
import wasmPath from 'v86/build/v86.wasm?url';
import type { PciFunction, PciSegment } from '../../src/index.ts';
import { parseDump } from '../../src/inspect/index.ts';
import type { GuestAccess } from '../../vmm-glue/v86/index.ts';
import dump from '../../vmm-glue/captures/igb-82576.txt?raw';
import { tellStory } from '../../vmm-glue/cli/demo/story.ts';
import { V86Guest } from '../../vmm-glue/cli/demo/v86-guest.ts';
import { AccessView } from './access-view.ts';
import { element } from './dom.ts';
import { LatchView } from './latch-view.ts';
import { RegisterView } from './register-view.ts';
import { StepView, VerdictView } from './story-view.ts';

const button = element('run', HTMLButtonElement);
const pace = element('pace', HTMLSelectElement);
const status = element('status', HTMLOutputElement);

/** `?pace=MS` in the address chooses a pace. */
const asked = new URLSearchParams(location.search).get('pace');
if (asked !== null && [...pace.options].some(({ value }) => value === asked)) pace.value = asked;

function show(state: 'running' | 'done' | 'failed', text: string): void {
  document.body.dataset['state'] = state;
  status.value = text;
}

function pause(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Number(pace.value));
  });
}

async function play(): Promise<void> {
  const [dumped] = parseDump(new TextEncoder().encode(dump));
  if (dumped === undefined) throw new Error('the dump is empty');
  const accesses = new AccessView();
  const steps = new StepView();
  const verdicts = new VerdictView();
  let registers: RegisterView | undefined;
  let latch: LatchView | undefined;
  let fn: PciFunction | undefined;
  let physicalWrites = 0;
  const onAccess = (access: GuestAccess): void => {
    const hit = 'rid' in access && access.rid === fn?.endpointState.rid;
    accesses.add(access, hit);
    if (hit && access.write) registers?.written(access.offset, access.size);
  };
  await tellStory(dumped, {
    width: undefined,
    boot: (segment: PciSegment, bdf: string) => {
      fn = segment.function(bdf);
      if (fn === undefined) throw new Error(`there is no function at ${bdf}`);
      registers = new RegisterView(fn);
      latch = new LatchView(fn);
      fn.on('pasid-control', () => latch?.update(physicalWrites));
      fn.on('reset', () => {
        latch?.update(physicalWrites);
        registers?.update();
      });
      return V86Guest.load({ V86, wasmPath }, segment, bdf, onAccess);
    },
    onRequest: (request) => verdicts.add(request),
    onStep: async (step) => {
      physicalWrites += step.physicalWrites;
      steps.add(step);
      accesses.update();
      registers?.update();
      latch?.update(physicalWrites);
      await pause();
    },
  });
}

async function run(): Promise<void> {
  button.disabled = true;
  show('running', 'running');
  const start = performance.now();
  try {
    await play();
    show('done', `done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  } catch (error) {
    show('failed', error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    button.disabled = false;
  }
}

button.addEventListener('click', () => void run());
void run();
