// The menu "Examples": what the chosen user may do.
import { DropdownMenu, useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { useRef } from 'react';
import text from './examples.graphql?raw';

interface Example {
  title: string;
  source: string;
  /** The permission that it needs, if any. */
  needs: string | undefined;
  variables: string;
  headers: string;
}

function parse(block: string): Example {
  const lines = block.split('\n');
  const setting = (name: string) => lines.find((line) => line.startsWith(`# ${name}: `))?.slice(name.length + 4);
  return {
    title: lines[0]?.slice(2) ?? '',
    source: lines.filter((line) => !/^# (Needs|Variables|Headers): /.test(line)).join('\n'),
    needs: setting('Needs'),
    variables: setting('Variables') ?? '',
    headers: setting('Headers') ?? '',
  };
}

const examples = text.trim().split('\n\n').slice(1).map(parse);

export const firstExample = examples[0]?.source;

/** `permissions` is null while they are unknown: then all examples are offered. */
export function Examples({ permissions }: { permissions: string[] | null }) {
  const { addTab } = useGraphiQLActions();
  const { queryEditor, variableEditor, headerEditor } = useGraphiQL(
    ({ queryEditor, variableEditor, headerEditor }) => ({ queryEditor, variableEditor, headerEditor }),
  );
  const opened = useRef(false);
  const open = ({ source, variables, headers }: Example) => {
    if (queryEditor?.getValue().trim() !== '') addTab();
    queryEditor?.setValue(source);
    variableEditor?.setValue(variables);
    headerEditor?.setValue(headers.replace('UUID', crypto.randomUUID()));
    opened.current = true;
  };
  // The menu returns focus to its button. After opening an example, the editor needs it instead.
  const close = (event: Event) => {
    if (!opened.current) return;
    opened.current = false;
    event.preventDefault();
    queryEditor?.focus();
  };
  const offered = examples.filter(({ needs }) => !needs || !permissions || permissions.includes(needs));
  return (
    <DropdownMenu>
      <DropdownMenu.Button className="examples">Examples ▾</DropdownMenu.Button>
      <DropdownMenu.Content align="end" className="examples-menu" onCloseAutoFocus={close}>
        {offered.map((example) => (
          <DropdownMenu.Item key={example.title} onSelect={() => open(example)}>
            {example.title}
          </DropdownMenu.Item>
        ))}
      </DropdownMenu.Content>
    </DropdownMenu>
  );
}
