package authdb

import (
	"errors"
	"io/fs"
)

var errBusy = errors.New("there is no rights database on Windows")

func (*Rights) lock() (func(), error) { return nil, errBusy }

func ownerOf(fs.FileInfo) int { return -1 }
