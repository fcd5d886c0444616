// What GraphiQL lacks: long lines wrap, phones have room for the text, the current tab is visible,
// a response disappears when it is no longer that of the chosen user or organization, and an open
// subscription says that it waits.
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { useEffect, useRef } from 'react';

/** `context` identifies the user and the organization of requests. */
export function Session({ context }: { context: string }) {
  const { queryEditor, variableEditor, headerEditor, responseEditor } = useGraphiQL((state) => ({
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
    headerEditor: state.headerEditor,
    responseEditor: state.responseEditor,
  }));
  const activeTab = useGraphiQL((state) => state.activeTabIndex);
  const { stop } = useGraphiQLActions();
  useEffect(() => {
    const phone = matchMedia('(max-width: 760px)');
    const fit = () => {
      const options = { wordWrap: 'on', lineNumbers: phone.matches ? 'off' : 'on' } as const;
      for (const editor of [queryEditor, variableEditor, headerEditor]) editor?.updateOptions(options);
    };
    fit();
    phone.addEventListener('change', fit);
    return () => phone.removeEventListener('change', fit);
  }, [queryEditor, variableEditor, headerEditor]);
  useEffect(() => {
    document.querySelector('.graphiql-tab-active')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }, [activeTab]);

  const previous = useRef(context);
  useEffect(() => {
    if (previous.current === context) return;
    previous.current = context;
    stop();
    responseEditor?.setValue('');
  }, [context, responseEditor, stop]);
  return null;
}

export function Listening() {
  const isOpen = useGraphiQL((state) => state.subscription !== null);
  return isOpen && <p className="listening" role="status">Listening for events … Stop with the button, or run it again.</p>;
}
