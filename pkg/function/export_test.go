package function

// SetFolders puts other folders in the place of those that a host has.
func (c *Credentials) SetFolders(folders ...string) { c.folders = folders }
