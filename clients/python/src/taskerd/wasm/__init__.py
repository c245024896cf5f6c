"""WASM handlers: modules of a directory as step handlers, each step in a fresh sandbox. Needs ``pip install taskerd[wasm]``.

    python -m taskerd wasm --dir ./handlers

A module `charge.wasm` is the handler `charge`, `shop/charge.wasm` the handler `shop.charge`. The README says what a module may do.
``taskerd.wasm.sandbox`` runs a module, ``taskerd.wasm.modules`` makes handlers of a directory.
"""
