import { type Decided, describeVerdict, type Step } from '../../vmm-glue/cli/demo/story.ts';
import { element, hex, make } from './dom.ts';

/** The device's requests and what became of them. */
export class VerdictView {
  readonly #body: HTMLTableSectionElement;

  constructor() {
    const [body] = element('verdicts', HTMLTableElement).tBodies;
    if (body === undefined) throw new Error('the table of verdicts has no body');
    this.#body = body;
    body.replaceChildren();
  }

  add({ access, pasid, address, verdict }: Decided): void {
    const row = this.#body.insertRow();
    const text = describeVerdict(verdict);
    row.append(make('td', access), make('td', `0x${hex(pasid)}`), make('td', `0x${hex(address)}`));
    row.append(make('td', text, text.startsWith('accepted') ? 'accepted' : 'rejected'));
  }
}

/** The story, a step at a time. */
export class StepView {
  readonly #list: HTMLOListElement = element('steps', HTMLOListElement);

  constructor() {
    this.#list.replaceChildren();
  }

  add({ who, did, result }: Step): void {
    const item = make('li', '');
    item.append(make('strong', who), ` ${did}`, make('div', result, 'result'));
    this.#list.append(item);
  }
}
