// A file of handlers that cannot be loaded: line 3 is what is wrong with it.

throw new Error('these handlers are broken');
