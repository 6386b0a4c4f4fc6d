package main

import (
	"sallyport/agent/daemon"
	"sallyport/authplugin/authdb"
	"sallyport/authplugin/authdb/dryload"
	"sallyport/internal/config"
)

// rights is the rights database. The rights have to be taken out again with a broken
// configuration, too: then it comes with the error, and knows where the state is.
var rights = func(path string) (*authdb.Rights, error) {
	loaded, err := config.Check(path)
	if err != nil {
		loaded = config.Salvaged(path)
	}
	r := daemon.Rights(&loaded.Config)
	r.Load = dryload.Load
	return r, err
}
