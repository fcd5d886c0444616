// The menu "Examples".
import { DropdownMenu, useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { useRef } from 'react';
import text from './examples.graphql?raw';

const examples = text
  .trim()
  .split('\n\n')
  .slice(1)
  .map((source) => ({ title: source.slice(2, source.indexOf('\n')), source }));

export const firstExample = examples[0]?.source;

export function Examples() {
  const { addTab } = useGraphiQLActions();
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const opened = useRef(false);
  const open = (source: string) => {
    if (queryEditor?.getValue().trim() !== '') addTab();
    queryEditor?.setValue(source);
    opened.current = true;
  };
  // The menu returns focus to its button. After opening an example, the editor needs it instead.
  const close = (event: Event) => {
    if (!opened.current) return;
    opened.current = false;
    event.preventDefault();
    queryEditor?.focus();
  };
  return (
    <DropdownMenu>
      <DropdownMenu.Button className="examples">Examples ▾</DropdownMenu.Button>
      <DropdownMenu.Content align="end" className="examples-menu" onCloseAutoFocus={close}>
        {examples.map(({ title, source }) => (
          <DropdownMenu.Item key={title} onSelect={() => open(source)}>
            {title}
          </DropdownMenu.Item>
        ))}
      </DropdownMenu.Content>
    </DropdownMenu>
  );
}
