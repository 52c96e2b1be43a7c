package jws

// Members reads a JSON text that must be one object, as strictly as [Parse] reads a
// payload, and calls visit for each member with its decoded name and its value as it
// stands; visit may be nil. It is for the other documents that security hangs on: claims, introspection
// answers, metadata. encoding/json would take "CNF" for "cnf" and the last of two.
// Errors are of type *[Error].
func Members(data []byte, visit func(name, value []byte)) error {
	if fault := scanObject(data, "cnf", visit); fault != "" {
		return &Error{fault}
	}
	return nil
}

// Text returns the text of a JSON string that [Members] has passed on, and false for a
// value of another type.
func Text(value []byte) (string, bool) { return unquote(value) }
