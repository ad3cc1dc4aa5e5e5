"""Pictures that strangers send: taken apart in a process of their own, and made anew from their pixels alone."""
