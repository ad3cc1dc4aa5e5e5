"""The subcommands of `thirdkey`, each in a module that is imported when it is called."""
